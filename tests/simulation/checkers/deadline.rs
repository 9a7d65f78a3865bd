//! Contract 5: a caller is answered in the very step in which a deadline or timeout passes, never
//! before it, and the supervisor asks to be woken in time.

use poold::supervisor::{Action, Event, Notice, Supervisor};
use poold::task::{Limit, Outcome};
use poold::time::Time;

use super::{Checker, Verdict, demand, ending};
use crate::history::{History, State, Task};
use crate::trial::Step;

/// Watches the clock on behalf of tasks.
pub struct Deadline;

impl Checker for Deadline {
    fn name(&self) -> &'static str {
        "deadline"
    }

    fn action(&mut self, history: &History, action: &Action) -> Verdict {
        let judged = match action {
            Action::Notice(Notice::TaskRetried { task, outcome, .. }) => {
                history.tasks.get(task).map(|task| (task, outcome))
            }
            _ => ending(history, action),
        };
        let Some((task, outcome @ Outcome::TimedOut(limit))) = judged else { return Ok(()) };
        let has_passed = match limit {
            Limit::Deadline => task.submission.deadline.is_some_and(|deadline| deadline <= history.now),
            Limit::Timeout => times_out_at(task).is_some_and(|timeout| timeout <= history.now),
        };
        demand(has_passed, || format!("task {} {outcome} before its time, at {}", task.id, history.now))
    }

    fn settled(&mut self, history: &History, step: &Step, supervisor: &Supervisor) -> Verdict {
        if history.exit.is_some() {
            return Ok(());
        }
        let wakes_at = supervisor.poll_deadline();
        for task in history.live_tasks() {
            for due in [task.submission.deadline, times_out_at(task)].into_iter().flatten() {
                demand(due > step.now || !matches!(step.event, Event::TimePassed), || {
                    format!("task {} should have been answered at {due} and is {:?}", task.id, task.state)
                })?;
                demand(wakes_at.is_some_and(|wakes_at| wakes_at <= due), || {
                    format!("task {} is due at {due} and the supervisor sleeps until {wakes_at:?}", task.id)
                })?;
            }
        }
        Ok(())
    }
}

/// When the attempt that runs has run for too long.
fn times_out_at(task: &Task) -> Option<Time> {
    task.attempts.last().filter(|_| task.state == State::Sent)?.times_out_at()
}
