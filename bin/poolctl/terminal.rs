//! Standard error: complaints, a line each, and on a terminal the line that shows progress.
//!
//! Owns what is drawn there, so that a complaint, a result or the end of the program never leaves half
//! of a progress line behind. A standard error that cannot be written to changes nothing.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long a command runs before it shows progress.
const PROGRESS_DELAY: Duration = Duration::from_millis(400);

/// How long a progress line stands before it is drawn anew.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Back to the first column, and clear to the end of the line.
const CLEAR: &str = "\r\x1b[K";

/// Whether a progress line is drawn. Held while standard error is written to.
static DRAWN: Mutex<bool> = Mutex::new(false);

/// Says what is wrong: one line, whatever is in `text`.
pub(crate) fn complain(text: impl Display) {
    draw(&format!("poolctl: {}\n", one_line(&text.to_string())), false);
}

/// Says what is wrong with a line of the input: one line, whatever is in `text`.
pub(crate) fn complain_of_line(line: u64, text: impl Display) {
    draw(&format!("line {line}: {}\n", one_line(&text.to_string())), false);
}

/// Takes a progress line away, before something else is written to the same terminal.
pub(crate) fn clear() {
    draw("", false);
}

/// Takes a progress line away, and lets no other be drawn. Does not wait for a terminal that is stopped.
pub(crate) fn clear_before_exit() {
    if let Ok(drawn) = DRAWN.try_lock() {
        if *drawn {
            let _ = io::stderr().write_all(CLEAR.as_bytes());
        }
        std::mem::forget(drawn);
    }
}

/// Writes `text` in place of the progress line; `progress` says whether it is one.
fn draw(text: &str, progress: bool) {
    let mut drawn = DRAWN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let clear = if *drawn { CLEAR } else { "" };
    *drawn = progress;
    if !(clear.is_empty() && text.is_empty()) {
        // There is nowhere left to complain to.
        let _ = io::stderr().write_all(format!("{clear}{text}").as_bytes());
    }
}

/// `text` with every control character escaped: it stays on one line, and no terminal acts on it.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.trim_end().chars() {
        if character.is_control() { line.extend(character.escape_default()) } else { line.push(character) }
    }
    line
}

/// The line that shows how far a long command is; nothing where standard error is no terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    started: Instant,
    /// When to draw; none where nobody would see it.
    next: Option<Instant>,
}

impl Progress {
    /// Progress of a command that starts now.
    pub(crate) fn start() -> Self {
        let started = Instant::now();
        Progress { started, next: io::stderr().is_terminal().then(|| started + PROGRESS_DELAY) }
    }

    /// How long until the line wants to be drawn; none if it never will be.
    pub(crate) fn due_in(&self) -> Option<Duration> {
        Some(self.next?.saturating_duration_since(Instant::now()))
    }

    /// Draws the line if it is due: `done` of the `total` so far.
    pub(crate) fn draw_if_due(&mut self, done: u64, total: u64) {
        let now = Instant::now();
        if self.next.is_some_and(|next| next <= now) {
            self.next = Some(now + PROGRESS_INTERVAL);
            let per_second = done as f64 / now.duration_since(self.started).as_secs_f64();
            draw(&format!("{done}/{total} done, {per_second:.0} per second"), true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_escapes_newlines_and_escape_sequences() {
        assert_eq!(one_line("a\nb\x1b[2Jc\td — é\n"), "a\\nb\\u{1b}[2Jc\\td — é");
    }
}
