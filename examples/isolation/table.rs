//! How the sections look: a heading, the claim, and tables whose columns are aligned. It measures nothing.

use std::fmt::Display;

/// The longest line of a claim.
const WIDTH: usize = 100;

/// Prints the heading of a section, and what it claims.
pub(crate) fn section(heading: &str, claim: &str) {
    println!("== {heading} ==\n");
    paragraph(claim);
}

/// Prints a text in lines that are not too long.
pub(crate) fn paragraph(text: &str) {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            println!("{line}");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    println!("{line}\n");
}

/// Rows of texts, the first of which are the heads of the columns.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(heads: &[&str]) -> Self {
        Table { rows: vec![heads.iter().map(|head| (*head).to_owned()).collect()] }
    }

    /// Adds a row: as many cells as there are heads.
    pub(crate) fn row(&mut self, cells: &[&dyn Display]) {
        self.rows.push(cells.iter().map(ToString::to_string).collect());
    }

    /// Prints it: the first column aligned to the left, the others to the right.
    pub(crate) fn print(&self) {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max();
        let widths: Vec<usize> = (0..self.rows[0].len()).filter_map(width).collect();
        for row in &self.rows {
            let mut cells = row.iter().zip(&widths);
            let first = cells.next().map(|(cell, width)| format!("  {cell:<width$}")).unwrap_or_default();
            let others: String = cells.map(|(cell, width)| format!("   {cell:>width$}")).collect();
            println!("{first}{others}");
        }
        println!();
    }
}

/// A measured number, with as many digits as it deserves.
pub(crate) fn figure(number: f64) -> String {
    let decimals = match number {
        number if number >= 100.0 => 0,
        number if number >= 10.0 => 1,
        number if number >= 1.0 => 2,
        _ => 4,
    };
    format!("{number:.decimals$}")
}

/// The least sample; of none, no number.
pub(crate) fn fastest(samples: &[f64]) -> f64 {
    samples.iter().copied().reduce(f64::min).unwrap_or(f64::NAN)
}

/// The sample in the middle; of none, no number.
pub(crate) fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}
