//! Pools: their policy, their slots, the functions they have and the tasks that wait for them.

use std::collections::{BTreeMap, BTreeSet};

use super::policy::PoolPolicy;
use super::queue::Queue;
use super::restart::Failures;
use crate::id::{FunctionName, SlotId};
use crate::message::status::FunctionInfo;

/// A pool's place in the list of pools. Kept for its name, also over a reload that leaves it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PoolId(pub(super) usize);

/// A pool.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) policy: PoolPolicy,
    /// The configuration leaves it out: it takes no new tasks and goes once it has none.
    pub(super) retired: bool,
    /// What its workers can run; nothing is known before the first one was ready.
    pub(super) functions: Option<BTreeMap<FunctionName, FunctionInfo>>,
    pub(super) queue: Queue,
    pub(super) slots: BTreeSet<SlotId>,
    /// Those of its slots whose worker can be sent an attempt.
    pub(super) open: BTreeSet<SlotId>,
    /// Its tasks that are not done.
    pub(super) unfinished: u64,
    pub(super) failures: Failures,
    pub(super) last_failure: Option<String>,
    /// Processes started in place of ones that died.
    pub(super) restarts: u64,
}

/// What a pool knows of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Knowledge<'a> {
    /// It has it, by this name.
    Has(&'a FunctionName),
    /// It does not.
    HasNot,
    /// No worker was ready yet to say so.
    Unknown,
}

impl Pool {
    /// A pool without slots.
    pub(super) fn new(policy: PoolPolicy) -> Self {
        Pool {
            policy,
            retired: false,
            functions: None,
            queue: Queue::default(),
            slots: BTreeSet::new(),
            open: BTreeSet::new(),
            unfinished: 0,
            failures: Failures::default(),
            last_failure: None,
            restarts: 0,
        }
    }

    /// Whether its policy lets it serve `function`.
    fn serves(&self, function: &FunctionName) -> bool {
        let PoolPolicy { functions, except, .. } = &self.policy;
        let is_named = functions.as_ref().is_none_or(|served| served.contains(function));
        !self.retired && is_named && !except.contains(function)
    }

    /// Whether a new task of `function` can go to it.
    pub(super) fn knows(&self, function: &FunctionName) -> Knowledge<'_> {
        match &self.functions {
            _ if !self.serves(function) => Knowledge::HasNot,
            Some(functions) => match functions.get_key_value(function) {
                Some((name, _)) => Knowledge::Has(name),
                None => Knowledge::HasNot,
            },
            None => Knowledge::Unknown,
        }
    }

    /// The functions that new tasks can name.
    pub(super) fn served(&self) -> impl Iterator<Item = &FunctionInfo> {
        let known = self.functions.iter().flat_map(BTreeMap::values);
        known.filter(|info| self.serves(&info.name))
    }
}
