//! The tables, in words or as JSON: what each contender took, and the ratios between them.
//!
//! A ratio is taken turn by turn, of what two contenders took right after one another, and told by its spread over
//! the turns: what slows the machine for a while slows both.

use serde_json::{Value, json};

use crate::statistics::{Bound, Spread, Statistic};

/// All tables of a run, each printed as soon as it is complete.
#[derive(Debug)]
pub struct Report {
    as_json: bool,
    tables: Vec<Value>,
}

/// Contenders at one and the same work.
#[derive(Debug)]
pub struct Table {
    title: String,
    unit: &'static str,
    contenders: Vec<Contender>,
    ratios: Vec<Ratio>,
    figures: Vec<Figure>,
}

#[derive(Debug)]
struct Contender {
    who: String,
    /// The samples of each turn.
    turns: Vec<Vec<f64>>,
}

#[derive(Debug)]
struct Ratio {
    of: String,
    to: String,
    statistic: Statistic,
    /// Of each turn that both had.
    spread: Spread,
    bound: Bound,
}

#[derive(Debug)]
struct Figure {
    what: String,
    value: f64,
    unit: &'static str,
    bound: Bound,
}

impl Report {
    pub fn new(as_json: bool) -> Self {
        Report { as_json, tables: Vec::new() }
    }

    /// Adds a table that is complete.
    pub fn add(&mut self, table: Table) {
        if self.as_json {
            self.tables.push(table.as_json());
        } else {
            table.print();
        }
    }

    /// Prints what was not printed before.
    pub fn finish(self) {
        if self.as_json {
            println!("{:#}", Value::from(self.tables));
        }
    }
}

impl Table {
    pub fn new(title: impl Into<String>, unit: &'static str) -> Self {
        let title = title.into();
        Table { title, unit, contenders: Vec::new(), ratios: Vec::new(), figures: Vec::new() }
    }

    /// Adds what a contender took in its turn.
    pub fn add(&mut self, who: &str, samples: Vec<f64>) {
        match self.contenders.iter_mut().find(|contender| contender.who == who) {
            Some(contender) => contender.turns.push(samples),
            None => self.contenders.push(Contender { who: who.to_owned(), turns: vec![samples] }),
        }
    }

    /// Sets what `of` took in relation to what `to` took, once all turns are over; nothing where one had none.
    pub fn compare(&mut self, of: &str, to: &str, statistic: Statistic, bound: Bound) {
        let turns = self.turns_of(of).iter().zip(self.turns_of(to));
        let ratios: Vec<f64> = turns.map(|(of, to)| statistic.of(of) / statistic.of(to)).collect();
        if !ratios.is_empty() {
            let (of, to, spread) = (of.to_owned(), to.to_owned(), Spread::of(ratios));
            self.ratios.push(Ratio { of, to, statistic, spread, bound });
        }
    }

    /// Adds a figure that stands for itself.
    pub fn tell(&mut self, what: impl Into<String>, value: f64, unit: &'static str, bound: Bound) {
        self.figures.push(Figure { what: what.into(), value, unit, bound });
    }

    /// Whether a contender has had a turn.
    pub fn has(&self, who: &str) -> bool {
        !self.turns_of(who).is_empty()
    }

    /// The median of all that a contender took.
    pub fn median_of(&self, who: &str) -> f64 {
        Spread::of(self.turns_of(who).iter().flatten().copied()).median
    }

    fn turns_of(&self, who: &str) -> &[Vec<f64>] {
        self.contenders
            .iter()
            .find(|contender| contender.who == who)
            .map_or(&[], |contender| &contender.turns)
    }

    fn print(&self) {
        println!("\n{}", self.title);
        if !self.contenders.is_empty() {
            println!("  {:<50} {:>11} {:>11} {:>11} {:>11}", self.unit, "min", "median", "p99", "max");
        }
        for Contender { who, turns } in &self.contenders {
            let Spread { min, median, p99, max } = Spread::of(turns.iter().flatten().copied());
            println!("  {who:<50} {min:>11.1} {median:>11.1} {p99:>11.1} {max:>11.1}");
        }
        if !self.ratios.is_empty() {
            println!("  {:<50} {:>11} {:>11} {:>11}", "ratio, turn by turn", "min", "median", "max");
        }
        for Ratio { of, to, statistic, spread: Spread { min, median, max, .. }, bound } in &self.ratios {
            let name = match statistic {
                Statistic::Median => format!("{of} / {to}"),
                Statistic::P99 => format!("{of} / {to} (p99)"),
            };
            let judgement = in_words(*bound, *median);
            println!("  {name:<50} {min:>11.3} {median:>11.3} {max:>11.3}   {judgement}");
        }
        for Figure { what, value, unit, bound } in &self.figures {
            println!("  {what:<50} {value:>11.1} {unit}   {}", in_words(*bound, *value));
        }
    }

    fn as_json(&self) -> Value {
        let contenders = self.contenders.iter().map(|Contender { who, turns }| {
            let Spread { min, median, p99, max } = Spread::of(turns.iter().flatten().copied());
            let samples: usize = turns.iter().map(Vec::len).sum();
            json!({
                "who": who, "turns": turns.len(), "samples": samples,
                "min": min, "median": median, "p99": p99, "max": max,
            })
        });
        let ratios = self.ratios.iter().map(|Ratio { of, to, statistic, spread, bound }| {
            let Spread { min, median, max, .. } = *spread;
            json!({
                "of": of, "to": to, "statistic": statistic.as_str(), "min": min, "median": median, "max": max,
                "bound": symbols(*bound), "met": bound.is_met_by(median),
            })
        });
        let figures = self.figures.iter().map(|Figure { what, value, unit, bound }| {
            let met = bound.is_met_by(*value);
            json!({ "what": what, "value": value, "unit": unit, "bound": symbols(*bound), "met": met })
        });
        json!({
            "title": self.title, "unit": self.unit, "contenders": contenders.collect::<Vec<_>>(),
            "ratios": ratios.collect::<Vec<_>>(), "figures": figures.collect::<Vec<_>>(),
        })
    }
}

fn symbols(bound: Bound) -> Option<String> {
    match bound {
        Bound::AtMost(most) => Some(format!("≤ {most}")),
        Bound::AtLeast(least) => Some(format!("≥ {least}")),
        Bound::Free => None,
    }
}

fn in_words(bound: Bound, figure: f64) -> String {
    let met = bound.is_met_by(figure).map(|met| if met { "met" } else { "MISSED" });
    symbols(bound).zip(met).map_or_else(String::new, |(bound, met)| format!("{bound}: {met}"))
}
