//! Listings for people: aligned columns, sizes and durations in units that can be read.

use std::time::Duration;

use crate::terminal::one_line;

/// A listing. Columns whose title starts with a space hold numbers and are aligned to the right.
#[derive(Debug)]
pub(crate) struct Table {
    titles: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A listing without rows.
    pub(crate) fn new(titles: &'static [&'static str]) -> Self {
        Table { titles, rows: Vec::new() }
    }

    /// Adds a row: a cell for each title.
    pub(crate) fn push(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().map(|cell| one_line(&cell)).collect();
        assert_eq!(cells.len(), self.titles.len(), "a row has a cell for each title");
        self.rows.push(cells);
    }

    /// The listing as text, the titles first.
    pub(crate) fn render(&self) -> String {
        let titles: Vec<String> = self.titles.iter().map(|title| title.trim_start().to_owned()).collect();
        let lines = || std::iter::once(&titles).chain(&self.rows);
        let widths: Vec<usize> = (0..titles.len())
            .map(|column| lines().map(|line| line[column].chars().count()).max().unwrap_or(0))
            .collect();

        let mut text = String::new();
        for line in lines() {
            let start = text.len();
            for ((cell, title), &width) in line.iter().zip(self.titles).zip(&widths) {
                let aligned = if title.starts_with(' ') {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                };
                if text.len() > start {
                    text.push_str("  ");
                }
                text.push_str(&aligned);
            }
            text.truncate(text.trim_end().len().max(start));
            text.push('\n');
        }
        text
    }
}

/// What stands for a cell that holds nothing.
pub(crate) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// So many bytes, to three digits or so: `12.3 MiB`.
pub(crate) fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 and more would print as 1024.0.
    while size >= 1023.95 && unit < UNITS.len() - 1 {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// So many milliseconds, in their two largest units: `2h 3m`.
pub(crate) fn duration_text(milliseconds: u64) -> String {
    let text = humantime::format_duration(Duration::from_millis(milliseconds)).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// `count` things: `1 client`, `2 clients`.
pub(crate) fn counted(count: u64, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn render_aligns_names_left_and_numbers_right() {
        let mut table = Table::new(&["NAME", " COUNT", "NOTE"]);
        table.push(["a", "10000000", ""].map(String::from));
        table.push(["länger", "1", "two\nlines"].map(String::from));
        assert_eq!(
            table.render(),
            "NAME       COUNT  NOTE\n\
             a       10000000\n\
             länger         1  two\\nlines\n"
        );
    }

    #[test]
    fn bytes_text_never_reaches_the_next_unit() {
        let texts = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (12_900_000, "12.3 MiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (bytes, text) in texts {
            assert_eq!(bytes_text(bytes), text);
        }
    }

    #[test]
    fn duration_text_has_the_two_largest_units() {
        assert_eq!(duration_text(0), "0s");
        assert_eq!(duration_text(350), "350ms");
        assert_eq!(duration_text(7_384_005), "2h 3m");
        assert_eq!(duration_text(90_000_000), "1day 1h");
    }
}
