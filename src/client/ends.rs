//! What came of the inputs of a map, put in the order of the inputs.
//!
//! ```text
//!   arrived: 128–255 … 0–127        given out: 0, 1, 2 …
//! ```
//!
//! Results that came together stay together, as the bytes that came, until each is given out.

use std::collections::BTreeMap;

use super::call::End;
use super::call_error::{CallError, Cause};
use super::template::Template;
use super::values::Decode;
use crate::id::TaskId;
use crate::task::{Payload, Payloads, Unread};

/// Ends of calls that were not given out.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// By the number of the first call.
    ahead: BTreeMap<u64, Ended>,
    /// What is being given out, and the task of the next of them.
    current: Unread,
    task: Option<TaskId>,
}

/// How one or more calls ended.
#[derive(Debug)]
enum Ended {
    Results { task: TaskId, results: Payloads },
    One { task: Option<TaskId>, end: End },
}

impl Ends {
    /// The calls from this number on have results, as tasks from that one on.
    pub(super) fn insert_results(&mut self, call: u64, task: TaskId, results: Payloads) {
        self.ahead.insert(call, Ended::Results { task, results });
    }

    /// The call of this number has ended.
    pub(super) fn insert(&mut self, call: u64, task: Option<TaskId>, end: End) {
        self.ahead.insert(call, Ended::One { task, end });
    }

    /// The end of the call of this number, which follows the one that was asked for before; nothing if it has not ended.
    pub(super) fn next<T>(
        &mut self,
        call: u64,
        template: &Template,
        decode: Decode<T>,
    ) -> Option<Result<T, CallError>> {
        if self.current.is_empty() {
            let first = self.ahead.first_entry().filter(|first| *first.key() == call)?;
            match first.remove() {
                Ended::Results { task, results } => {
                    self.current = results.into();
                    self.task = Some(task);
                }
                Ended::One { task, end } => {
                    let read = |result: Payload| read(&result, task, template, decode);
                    return Some(end.and_then(read));
                }
            }
        }
        let encoding = self.current.encoding();
        let result = Payload::new(encoding, self.current.next()?);
        let task = self.task;
        self.task = task.map(|task| task.plus(1));
        Some(read(&result, task, template, decode))
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        *self = Ends::default();
    }
}

fn read<T>(
    result: &Payload,
    task: Option<TaskId>,
    template: &Template,
    decode: Decode<T>,
) -> Result<T, CallError> {
    decode(result).map_err(|reason| CallError::new(template.function(), task, Cause::BadResult(reason)))
}
