//! The tables, in words or as JSON.

use std::error::Error;

use serde_json::{Value, json};

use crate::statistics::Spread;

/// All samples, by what was measured and of whom, in the order in which they first came.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    what: &'static str,
    who: &'static str,
    unit: &'static str,
    samples: Vec<f64>,
}

impl Report {
    /// Adds samples to those there are.
    pub fn add(&mut self, what: &'static str, who: &'static str, unit: &'static str, samples: Vec<f64>) {
        match self.rows.iter_mut().find(|row| row.what == what && row.who == who) {
            Some(row) => row.samples.extend(samples),
            None => self.rows.push(Row { what, who, unit, samples }),
        }
    }

    /// Prints a table for each thing measured; each contender beside the first one, which is the floor.
    pub fn print(&self, as_json: bool) -> Result<(), Box<dyn Error>> {
        if as_json {
            let rows: Vec<Value> = self.rows.iter().map(|row| self.as_json(row)).collect();
            println!("{}", serde_json::to_string_pretty(&rows)?);
            return Ok(());
        }
        let mut what = "";
        for row in &self.rows {
            if row.what != what {
                what = row.what;
                println!(
                    "\n{:<28} {:>12} {:>12} {:>12} {:>12}   to floor  (p99)",
                    format!("{what}, {}", row.unit),
                    "min",
                    "median",
                    "p99",
                    "max"
                );
            }
            let Spread { min, median, p99, max } = Spread::of(&row.samples);
            let (ratio, tail) = self.ratios(row);
            println!(
                "{:<28} {min:>12.1} {median:>12.1} {p99:>12.1} {max:>12.1}   {ratio:>8.3}  {tail:.3}",
                row.who
            );
        }
        Ok(())
    }

    /// The medians and the 99th percentiles of a row over those of the floor.
    fn ratios(&self, row: &Row) -> (f64, f64) {
        let floor = self.rows.iter().find(|other| other.what == row.what).unwrap_or(row);
        let (own, floor) = (Spread::of(&row.samples), Spread::of(&floor.samples));
        (own.median / floor.median, own.p99 / floor.p99)
    }

    fn as_json(&self, row: &Row) -> Value {
        let Spread { min, median, p99, max } = Spread::of(&row.samples);
        let (ratio, tail) = self.ratios(row);
        json!({
            "what": row.what, "who": row.who, "unit": row.unit, "samples": row.samples.len(),
            "min": min, "median": median, "p99": p99, "max": max,
            "median_to_floor": ratio, "p99_to_floor": tail,
        })
    }
}
