//! What the supervisor is told to keep to: the part of the configuration that decides something.

use std::collections::BTreeMap;
use std::time::Duration;

use super::access::Access;
use crate::id::{Credentials, FunctionName, PoolName, Uid};
use crate::limits;

/// Everything the supervisor must know beforehand. A reload replaces it whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The pools, in the order in which a task without a pool tries them.
    pub pools: Vec<PoolPolicy>,
    /// Tasks that may be accepted and not done.
    pub queue_tasks_max: u64,
    /// Bytes of arguments of those tasks.
    pub queue_bytes_max: u64,
    /// The same for the tasks of one user; see [`is_privileged`](Self::is_privileged).
    pub user_tasks_max: u64,
    /// Bytes of arguments of one user's tasks.
    pub user_bytes_max: u64,
    /// Bytes in the largest arguments.
    pub payload_bytes_max: u64,
    /// How long a detached task's result is kept.
    pub result_age_max: Duration,
    /// Results of detached tasks that are kept.
    pub results_max: u64,
    /// Bytes of results of detached tasks that are kept.
    pub result_bytes_max: u64,
    /// Results of one user's detached tasks that are kept.
    pub user_results_max: u64,
    /// Bytes of them.
    pub user_result_bytes_max: u64,
    /// Descriptors of shared memory that tasks may hold.
    pub descriptors: DescriptorPolicy,
    /// How long running tasks may go on after a request to stop.
    pub drain_timeout: Duration,
    /// The user the daemon runs as: beside root, the one who may do everything.
    pub daemon_user: Uid,
    /// How failing workers are restarted.
    pub restart: RestartPolicy,
    /// Workers that a function's tasks may kill in a row before it is quarantined; by none, it never is.
    pub quarantine_after: Option<u32>,
    /// Who may do what.
    pub access: Access,
    /// For each attempt of a task that names none, before the pool's: by function.
    pub function_timeouts: BTreeMap<FunctionName, Duration>,
}

/// How failing workers are restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Failures allowed in a pool within `period`; with more, the pool is degraded.
    pub intensity: u32,
    /// See `intensity`.
    pub period: Duration,
    /// The first wait; it doubles with each failure in a row. Also the first wait of a retry.
    pub backoff_min: Duration,
    /// The longest wait.
    pub backoff_max: Duration,
}

/// Descriptors of the daemon that payloads in shared memory may take, one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorPolicy {
    /// Those of arguments of tasks that are not done.
    pub arguments_max: u64,
    /// The same of one user.
    pub user_arguments_max: u64,
    /// Those of kept results.
    pub results_max: u64,
    /// The same of one user.
    pub user_results_max: u64,
}

/// What becomes of a pool's new tasks while it is degraded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenDegraded {
    /// They wait until it is well again.
    #[default]
    Queue,
    /// They are refused.
    Refuse,
}

/// What one pool keeps to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolPolicy {
    /// Its name.
    pub name: PoolName,
    /// Processes to keep alive.
    pub workers: u32,
    /// The functions it serves; by default all that its workers have.
    pub functions: Option<Vec<FunctionName>>,
    /// Functions that it does not serve although its workers have them.
    pub except: Vec<FunctionName>,
    /// For each attempt of a task that names none.
    pub timeout: Option<Duration>,
    /// How long a worker may go on after it was told to end.
    pub grace: Duration,
    /// How long a worker may take to become ready.
    pub start_timeout: Duration,
    /// Workers that stand by, ready, beside those.
    pub standby: u32,
    /// Attempts after which a worker is replaced, or up to a tenth fewer; at least 1.
    pub max_attempts: Option<u64>,
    /// How long after it was ready a worker is replaced, or up to a tenth earlier.
    pub max_lifetime: Option<Duration>,
    /// Bytes of resident memory beyond which a worker is replaced, as measured after an attempt.
    pub max_rss_bytes: Option<u64>,
    /// What becomes of new tasks while its workers keep failing.
    pub when_degraded: WhenDegraded,
    /// Changes with every change of how workers are started; those of another revision are replaced
    /// as they fall idle.
    pub revision: u64,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        RestartPolicy {
            intensity: limits::RESTART_INTENSITY,
            period: limits::RESTART_PERIOD,
            backoff_min: limits::BACKOFF_MIN,
            backoff_max: limits::BACKOFF_MAX,
        }
    }
}

impl DescriptorPolicy {
    /// So many shared out: half for arguments, a quarter for kept results. The rest is for results on their way.
    pub const fn within(descriptors: u64) -> Self {
        let (arguments_max, results_max) = (descriptors / 2, descriptors / 4);
        DescriptorPolicy {
            arguments_max,
            user_arguments_max: arguments_max.div_ceil(limits::USER_SHARE),
            results_max,
            user_results_max: results_max.div_ceil(limits::USER_SHARE),
        }
    }
}

impl PoolPolicy {
    /// A pool of `workers` processes with every other option at its default.
    pub fn new(name: PoolName, workers: u32) -> Self {
        PoolPolicy {
            name,
            workers,
            functions: None,
            except: Vec::new(),
            timeout: None,
            grace: limits::GRACE,
            start_timeout: limits::START_TIMEOUT,
            standby: 0,
            max_attempts: None,
            max_lifetime: None,
            max_rss_bytes: None,
            when_degraded: WhenDegraded::default(),
            revision: 0,
        }
    }
}

impl Policy {
    /// `pools` with every limit at its default, for a daemon that runs as `daemon_user`.
    pub fn new(pools: Vec<PoolPolicy>, daemon_user: Uid) -> Self {
        Policy {
            pools,
            queue_tasks_max: limits::QUEUE_TASKS_MAX,
            queue_bytes_max: limits::QUEUE_BYTES_MAX,
            user_tasks_max: limits::QUEUE_TASKS_MAX / limits::USER_SHARE,
            user_bytes_max: limits::QUEUE_BYTES_MAX / limits::USER_SHARE,
            payload_bytes_max: limits::PAYLOAD_BYTES_MAX,
            result_age_max: limits::RESULT_AGE_MAX,
            results_max: limits::RESULTS_MAX,
            result_bytes_max: limits::RESULT_BYTES_MAX,
            user_results_max: limits::RESULTS_MAX / limits::USER_SHARE,
            user_result_bytes_max: limits::RESULT_BYTES_MAX / limits::USER_SHARE,
            descriptors: DescriptorPolicy::within(limits::MEMORY_DESCRIPTORS_MAX),
            drain_timeout: limits::DRAIN_TIMEOUT,
            daemon_user,
            restart: RestartPolicy::default(),
            quarantine_after: Some(limits::QUARANTINE_AFTER),
            access: Access::default(),
            function_timeouts: BTreeMap::new(),
        }
    }

    /// Whether `user` may do everything, see and cancel the tasks of others above all, and is bound by no
    /// limit of one user: root and the daemon's own user, who could do it anyway.
    pub fn is_privileged(&self, user: Uid) -> bool {
        user == Uid(0) || user == self.daemon_user
    }

    /// Whether `peer` may connect.
    pub fn may_connect(&self, peer: &Credentials) -> bool {
        self.may_administer(peer) || self.access.connect.includes(peer)
    }

    /// Whether `peer` may change how the daemon runs, and whether it does. That is no right to the tasks of others.
    pub fn may_administer(&self, peer: &Credentials) -> bool {
        self.is_privileged(peer.user) || self.access.administer.includes(peer)
    }

    /// Whether `peer` may run `function`.
    pub fn may_run(&self, peer: &Credentials, function: &FunctionName) -> bool {
        self.is_privileged(peer.user) || self.access.to_run(function).includes(peer)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::Who;
    use super::*;

    #[test]
    fn door_that_is_closed_to_all_lets_those_in_who_administer() {
        let mut policy = Policy::new(Vec::new(), Uid(900));
        policy.access.connect = Who::nobody();
        policy.access.administer = Who::Listed { users: [Uid(1000)].into(), groups: BTreeSet::new() };
        for (user, may) in [(0, true), (900, true), (1000, true), (1001, false)] {
            let peer = Uid(user).into();
            assert_eq!((policy.may_connect(&peer), policy.may_administer(&peer)), (may, may), "uid {user}");
        }
        assert!(!policy.is_privileged(Uid(1000)), "to administer is no right to the tasks of others");
    }
}
