//! Functions whose tasks kill one worker after another: past a limit, no new task of theirs is taken.

use std::collections::{BTreeMap, BTreeSet};

use super::slots::{Stage, Worker};
use super::tasks::Watcher;
use super::{EndReason, Notice, Supervisor};
use crate::id::FunctionName;
use crate::message::client::{Refusal, ReplyBody};

/// What functions have done to workers.
#[derive(Debug, Default)]
pub(super) struct Killers {
    /// Workers killed since a task of the function last left its worker alive.
    in_a_row: BTreeMap<FunctionName, u32>,
    quarantined: BTreeSet<FunctionName>,
}

impl Killers {
    /// Counts a worker that died under `function`; gives how many it were in a row.
    fn record(&mut self, function: &FunctionName) -> u32 {
        let killed = self.in_a_row.entry(function.clone()).or_default();
        *killed = killed.saturating_add(1);
        *killed
    }

    /// A task of `function` left its worker alive.
    pub(super) fn forget(&mut self, function: &FunctionName) {
        if !self.in_a_row.is_empty() {
            self.in_a_row.remove(function);
        }
    }

    /// Whether new tasks of `function` are refused.
    pub(super) fn are(&self, function: &FunctionName) -> bool {
        self.quarantined.contains(function)
    }
}

impl Supervisor {
    /// The functions whose new tasks are refused because they kill workers.
    pub fn quarantined(&self) -> impl Iterator<Item = &FunctionName> {
        self.killers.quarantined.iter()
    }

    /// Counts a worker against the functions that it died under, unless the daemon had it end.
    pub(super) fn count_killed(&mut self, worker: &Worker, functions: BTreeSet<FunctionName>) {
        match worker.stage {
            Stage::Ready { .. } | Stage::Ending { reason: EndReason::HungUp | EndReason::Broke, .. } => {}
            Stage::Starting | Stage::Ending { .. } => return,
        }
        for function in functions {
            let killed = self.killers.record(&function);
            let is_too_many = self.policy.quarantine_after.is_some_and(|most| killed > most);
            if is_too_many && self.killers.quarantined.insert(function.clone()) {
                self.note(Notice::FunctionQuarantined { function, killed });
            }
        }
    }

    /// Takes new tasks of a function again.
    pub(super) fn release_requested(&mut self, from: Watcher, function: FunctionName) {
        if !self.killers.quarantined.remove(&function) {
            return self.refuse(from, Refusal::NotQuarantined { function });
        }
        self.killers.forget(&function);
        self.note(Notice::FunctionReleased { function: function.clone() });
        self.reply(from, ReplyBody::Released { function });
    }
}
