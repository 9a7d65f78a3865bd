//! The account of a run: a line per event, order and fact, in words short enough to read.

use std::collections::VecDeque;

/// Lines that are kept for the account of a failure.
const LINES_MAX: usize = 60;

/// Names of newtypes that say no more than what is in them.
const WRAPPERS: [&str; 10] = [
    "AttemptId",
    "ConnectionId",
    "FunctionName",
    "Generation",
    "Pid",
    "PoolName",
    "RequestId",
    "SlotId",
    "Time",
    "Uid",
];

/// What becomes of an account.
#[derive(Debug)]
pub enum Trace {
    /// It is not kept: nearly all runs end well.
    Off,
    /// Its last lines are kept.
    Last(VecDeque<String>),
    /// It is printed as it goes.
    Printed,
}

impl Trace {
    /// One that keeps the last lines.
    pub fn last() -> Self {
        Trace::Last(VecDeque::new())
    }

    /// Adds a line.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        match self {
            Trace::Off => {}
            Trace::Last(lines) => {
                if lines.len() == LINES_MAX {
                    lines.pop_front();
                }
                lines.push_back(shorten(&line()));
            }
            Trace::Printed => println!("{}", shorten(&line())),
        }
    }

    /// The lines that were kept.
    pub fn text(&self) -> String {
        match self {
            Trace::Off | Trace::Printed => String::new(),
            Trace::Last(lines) => lines.iter().map(|line| format!("{line}\n")).collect(),
        }
    }
}

/// The debug text of events and actions without what is the same in every line:
/// `WorkerId { slot: SlotId(3), generation: Generation(1) }` becomes `3.1`.
fn shorten(debug: &str) -> String {
    let mut text = debug.to_owned();
    for wrapper in WRAPPERS {
        let opening = format!("{wrapper}(");
        while let Some(start) = text.find(&opening) {
            let Some(length) = text[start..].find(')') else { break };
            let inner = text[start + opening.len()..start + length].trim_matches('"').to_owned();
            text.replace_range(start..=start + length, &inner);
        }
    }
    let text =
        replace_between(&text, "WorkerId { slot: ", " }", |inner| inner.replace(", generation: ", "."));
    replace_between(&text, "TaskId { epoch: Epoch(", " }", |inner| match inner.split_once("), number: ") {
        Some((_, number)) => format!("#{number}"),
        None => inner.to_owned(),
    })
}

/// Puts something else in place of every stretch of `text` from `opening` to the next `closing`.
fn replace_between(text: &str, opening: &str, closing: &str, other: impl Fn(&str) -> String) -> String {
    let mut parts = text.split(opening);
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(closing) {
            Some((inner, after)) => whole += &format!("{}{after}", other(inner)),
            None => whole += &format!("{opening}{part}"),
        }
    }
    whole
}

#[test]
fn trace_shortens_ids() {
    let worker = poold::id::WorkerId { slot: poold::id::SlotId(3), generation: poold::id::Generation(1) };
    let task = poold::id::TaskId { epoch: poold::id::Epoch(9), number: 4 };
    let debug = format!("{:?} {:?}", Some(worker), (task, poold::id::AttemptId(7)));
    assert_eq!(shorten(&debug), "Some(3.1) (#4, 7)");
}
