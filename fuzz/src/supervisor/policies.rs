//! Policies within what the configuration allows, the extremes included.

use std::collections::BTreeSet;
use std::time::Duration;

use poold::id::{FunctionName, PoolName, Uid};
use poold::supervisor::{Access, Policy, PoolPolicy, WhenDegraded, Who};

use super::super::draw::Draw;

/// The user that the daemon runs as.
pub const DAEMON_USER: Uid = Uid(999);

const POOLS: [&str; 3] = ["a", "b", "c"];
const FUNCTIONS: [&str; 4] = ["f", "g", "h", "run"];

/// Durations that nobody waits for in vain for long.
const SHORT: [Duration; 5] = [
    Duration::from_nanos(1),
    Duration::from_millis(1),
    Duration::from_millis(50),
    Duration::from_secs(1),
    Duration::from_secs(3600),
];

/// A function's name: one that some worker may have.
pub fn function(draw: &mut Draw<'_>) -> FunctionName {
    name_of_function(draw.pick(&FUNCTIONS))
}

/// Some of the functions.
pub fn functions(draw: &mut Draw<'_>) -> Vec<FunctionName> {
    let chosen = draw.below(1 << FUNCTIONS.len());
    let is_chosen = |(index, _): &(usize, &&str)| chosen & (1 << index) != 0;
    FUNCTIONS.iter().enumerate().filter(is_chosen).map(|(_, name)| name_of_function(name)).collect()
}

/// All functions.
pub fn all_functions() -> Vec<FunctionName> {
    FUNCTIONS.map(name_of_function).into()
}

/// A pool's name, whether there is one or not.
pub fn pool(draw: &mut Draw<'_>) -> PoolName {
    name_of_pool(draw.pick(&POOLS))
}

/// A duration that passes.
pub fn short(draw: &mut Draw<'_>) -> Duration {
    draw.pick(&SHORT)
}

/// A duration that may never pass.
pub fn any(draw: &mut Draw<'_>) -> Duration {
    if draw.below(6) == 5 { Duration::MAX } else { short(draw) }
}

/// Any policy.
pub fn draw(draw: &mut Draw<'_>) -> Policy {
    let chosen = 1 + draw.below((1 << POOLS.len()) - 1);
    let names = POOLS.iter().enumerate().filter(|(index, _)| chosen & (1 << index) != 0);
    let mut pools: Vec<PoolPolicy> = names.map(|(_, name)| draw_pool(draw, name)).collect();
    if draw.below(2) == 1 {
        pools.reverse();
    }
    let mut policy = Policy::new(pools, DAEMON_USER);
    match draw.below(12) {
        1 => policy.queue_tasks_max = 2,
        2 => policy.queue_bytes_max = 25,
        3 => policy.payload_bytes_max = 10,
        4 => policy.results_max = 1,
        5 => policy.result_bytes_max = 5,
        6 => policy.user_tasks_max = 1,
        7 => policy.user_bytes_max = 25,
        8 => policy.user_results_max = 1,
        9 => policy.user_result_bytes_max = 5,
        10 => policy.access = draw_access(draw),
        11 => _ = policy.function_timeouts.insert(function(draw), any(draw)),
        _ => {}
    }
    policy.result_age_max = any(draw);
    policy.drain_timeout = any(draw);
    policy.restart.intensity = draw.below(4) as u32;
    policy.restart.period = any(draw);
    policy.restart.backoff_min = short(draw);
    policy.restart.backoff_max = short(draw).max(policy.restart.backoff_min);
    policy.quarantine_after = draw.below(4).checked_sub(1).map(|killed| killed as u32 + 1);
    policy
}

/// A policy under which everything goes on.
pub fn calm() -> Policy {
    let pools = POOLS.map(|name| PoolPolicy::new(name_of_pool(name), 1));
    Policy { quarantine_after: None, ..Policy::new(pools.into(), DAEMON_USER) }
}

fn draw_access(draw: &mut Draw<'_>) -> Access {
    let users = [Uid(1), Uid(2)].into_iter().filter(|_| draw.below(2) == 1).collect();
    let listed = Who::Listed { users, groups: BTreeSet::new() };
    let run = functions(draw).into_iter().map(|function| (function, listed.clone())).collect();
    let run_others = if draw.below(2) == 0 { Who::Everyone } else { listed };
    Access { run, run_others, ..Access::default() }
}

fn draw_pool(draw: &mut Draw<'_>, name: &str) -> PoolPolicy {
    let mut pool = PoolPolicy::new(name_of_pool(name), 1 + draw.below(3) as u32);
    let options = draw.byte();
    let has = |bit: u32| options & (1 << bit) != 0;
    if has(0) {
        pool.standby = 1 + draw.below(2) as u32;
    }
    if has(1) {
        pool.functions = Some(functions(draw));
    }
    if has(2) {
        pool.except = functions(draw);
    }
    pool.timeout = has(3).then(|| any(draw));
    pool.max_attempts = has(4).then(|| 1 + draw.below(4) as u64);
    pool.max_lifetime = has(5).then(|| any(draw));
    pool.max_rss_bytes = has(6).then_some(1);
    if has(7) {
        pool.when_degraded = WhenDegraded::Refuse;
        pool.revision = draw.below(3) as u64;
    }
    pool.grace = any(draw);
    pool.start_timeout = any(draw);
    pool
}

fn name_of_function(name: &str) -> FunctionName {
    FunctionName::new(name).expect("it is one")
}

fn name_of_pool(name: &str) -> PoolName {
    PoolName::new(name).expect("it is one")
}
