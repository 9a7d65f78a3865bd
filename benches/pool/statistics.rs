//! Samples and what is told of them.

/// The least, the middle, the 99th of a hundred, and the most of some samples.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub p99: f64,
    pub max: f64,
}

impl Spread {
    /// Of at least one sample.
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = samples.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
        Spread { min: at(0.0), median: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

/// What a turn's samples are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    Median,
    P99,
}

impl Statistic {
    pub fn of(self, samples: &[f64]) -> f64 {
        let spread = Spread::of(samples.iter().copied());
        match self {
            Statistic::Median => spread.median,
            Statistic::P99 => spread.p99,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Statistic::Median => "median",
            Statistic::P99 => "p99",
        }
    }
}

/// What a figure must be.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    AtMost(f64),
    AtLeast(f64),
    /// It is told for its own sake.
    Free,
}

impl Bound {
    /// Whether a figure is what it must be; nothing if it may be anything.
    pub fn is_met_by(self, figure: f64) -> Option<bool> {
        match self {
            Bound::AtMost(most) => Some(figure <= most),
            Bound::AtLeast(least) => Some(figure >= least),
            Bound::Free => None,
        }
    }
}
