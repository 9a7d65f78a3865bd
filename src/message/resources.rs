//! What one attempt may use of the machine, as workers are told.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::FunctionName;

/// The limits of one attempt. What is not set is not limited beyond what holds for its worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptLimits {
    /// Bytes of address space of the process that runs it (RLIMIT_AS).
    pub memory_bytes: Option<u64>,
    /// Processor time, of all threads of that process together.
    pub cpu_time: Option<Duration>,
    /// Bytes in the largest file that it may write (RLIMIT_FSIZE).
    pub file_size_bytes: Option<u64>,
}

impl AttemptLimits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == AttemptLimits::default()
    }

    /// These, and `others` where these leave something open.
    pub fn or(self, others: AttemptLimits) -> AttemptLimits {
        AttemptLimits {
            memory_bytes: self.memory_bytes.or(others.memory_bytes),
            cpu_time: self.cpu_time.or(others.cpu_time),
            file_size_bytes: self.file_size_bytes.or(others.file_size_bytes),
        }
    }
}

/// What the attempts of a worker may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkLimits {
    /// Each attempt, as far as its function has no limit of its own.
    pub each: AttemptLimits,
    /// Each attempt of these functions. Those that run a command have theirs with the command.
    pub by_function: BTreeMap<FunctionName, AttemptLimits>,
}

impl WorkLimits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.each.is_empty() && self.by_function.values().all(AttemptLimits::is_empty)
    }

    /// What an attempt of `function` may use.
    pub fn of(&self, function: &FunctionName) -> AttemptLimits {
        self.by_function.get(function).copied().unwrap_or_default().or(self.each)
    }
}
