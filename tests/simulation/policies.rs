//! Policies drawn from a seed, and the ways in which a reload changes them.
//!
//! What a checker measures against the past (graces, start timeouts, the drain timeout, the restart
//! policy) stays as it is drawn.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use poold::id::{Credentials, FunctionName, Gid, PoolName, Uid};
use poold::limits::ATTEMPTS_AHEAD_MAX;
use poold::supervisor::{Access, DescriptorPolicy, Policy, PoolPolicy, RestartPolicy, WhenDegraded, Who};
use poold::task::{Encoding, Payload};

/// The user that the simulated daemon runs as.
pub const DAEMON_USER: Uid = Uid(999);

/// A group of two users.
pub const STAFF: Gid = Gid(100);
/// A group of one user.
pub const GUESTS: Gid = Gid(101);

/// The most memory that a pool's workers may take, where there is such a limit.
pub const RSS_BYTES_MAX: u64 = 1 << 20;

/// The pools that there may be.
pub const POOLS: [&str; 4] = ["cpu", "io", "gpu", "net"];
const FUNCTIONS: [&str; 5] = ["alpha", "beta", "gamma", "delta", "epsilon"];

/// What the workers of a pool are like.
#[derive(Clone, Debug)]
pub struct Breed {
    /// What they announce.
    pub functions: Vec<FunctionName>,
    /// How many attempts they hold, none of which is sent ahead.
    pub capacity: u32,
    /// How many they hold with those sent ahead: of such, what they have begun is known without a word.
    pub ahead: u32,
    /// How many of those they run at a time.
    pub threads: usize,
    /// Whether most of their functions are over as soon as they begin, so that many end between two looks.
    pub is_quick: bool,
}

/// Milliseconds as a duration.
pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The name of a function.
pub fn function(name: &str) -> FunctionName {
    FunctionName::new(name).expect("the simulation's functions have proper names")
}

/// The name of a pool.
pub fn pool(name: &str) -> PoolName {
    PoolName::new(name).expect("the simulation's pools have proper names")
}

/// Every function that some worker may have.
pub fn functions() -> Vec<FunctionName> {
    FUNCTIONS.iter().map(|name| function(name)).collect()
}

/// What the workers of each pool are like in one run.
pub fn draw_breeds(rng: &mut Rng) -> BTreeMap<PoolName, Breed> {
    let breed = |rng: &mut Rng| {
        let mut functions: Vec<FunctionName> = functions().into_iter().filter(|_| rng.bool()).collect();
        if functions.is_empty() {
            functions.push(function(FUNCTIONS[0]));
        }
        let capacity = if rng.u32(0..10) < 6 { 1 } else { rng.u32(2..5) };
        let ahead = if capacity == 1 && rng.bool() { rng.u32(2..=ATTEMPTS_AHEAD_MAX) } else { capacity };
        let is_quick = ahead > capacity && rng.bool();
        Breed { functions, capacity, ahead, threads: rng.usize(1..=capacity as usize), is_quick }
    };
    POOLS.iter().map(|name| (pool(name), breed(rng))).collect()
}

/// A policy to start with.
pub fn draw(rng: &mut Rng) -> Policy {
    let count = rng.usize(1..=3);
    let (grace, start_timeout) = (ms(rng.u64(10..100)), ms(rng.u64(30..200)));
    let pools = (0..count).map(|index| draw_pool(rng, POOLS[index], grace, start_timeout)).collect();
    let mut policy = Policy::new(pools, DAEMON_USER);
    policy.queue_tasks_max = if rng.u32(0..4) == 0 { rng.u64(3..12) } else { 1000 };
    policy.queue_bytes_max = if rng.u32(0..4) == 0 { rng.u64(300..2000) } else { 1_000_000 };
    policy.payload_bytes_max = 4096;
    policy.result_age_max = ms(rng.u64(50..5000));
    policy.results_max = if rng.bool() { rng.u64(1..5) } else { 1000 };
    policy.result_bytes_max = if rng.bool() { rng.u64(50..400) } else { 1_000_000 };
    policy.quarantine_after = draw_quarantine(rng);
    draw_user_limits(rng, &mut policy);
    policy.access = draw_access(rng);
    policy.drain_timeout = ms(rng.u64(20..400));
    policy.restart = RestartPolicy {
        intensity: rng.u32(1..5),
        period: ms(rng.u64(200..2000)),
        backoff_min: ms(rng.u64(5..40)),
        backoff_max: ms(rng.u64(80..600)),
    };
    if rng.bool() {
        policy.descriptors = DescriptorPolicy::within(rng.u64(0..16));
    }
    policy
}

/// A payload in shared memory of so many bytes. It has no descriptor: nobody here looks at one.
pub fn shared(bytes: u64) -> Payload {
    let memory = serde_json::from_value(bytes.into()).expect("what is announced is a number");
    Payload::shared(Encoding::Bytes, memory)
}

fn draw_quarantine(rng: &mut Rng) -> Option<u32> {
    (rng.u32(0..4) > 0).then(|| rng.u32(1..4))
}

/// What one user may take, often next to nothing.
fn draw_user_limits(rng: &mut Rng, policy: &mut Policy) {
    policy.user_tasks_max = if rng.u32(0..3) == 0 { rng.u64(2..8) } else { 1000 };
    policy.user_bytes_max = if rng.u32(0..4) == 0 { rng.u64(150..1000) } else { 1_000_000 };
    policy.user_results_max = if rng.bool() { rng.u64(1..4) } else { 1000 };
    policy.user_result_bytes_max = if rng.u32(0..4) == 0 { rng.u64(50..200) } else { 1_000_000 };
}

/// The groups of a user.
pub fn credentials(user: Uid) -> Credentials {
    let groups: &[Gid] = match user {
        Uid(1000) => &[STAFF],
        Uid(1001) => &[STAFF, GUESTS],
        _ => &[],
    };
    Credentials { user, groups: groups.into() }
}

/// Who may run what: mostly everyone everything.
fn draw_access(rng: &mut Rng) -> Access {
    let mut access = Access::default();
    if rng.bool() {
        return access;
    }
    for function in functions() {
        if rng.u32(0..3) == 0 {
            access.run.insert(function, draw_who(rng));
        }
    }
    if rng.u32(0..4) == 0 {
        access.run_others = draw_who(rng);
    }
    access
}

fn draw_who(rng: &mut Rng) -> Who {
    match rng.u32(0..4) {
        0 => Who::Everyone,
        1 => Who::nobody(),
        2 => Who::Listed { users: [Uid(1000), Uid(1002)].into(), groups: BTreeSet::new() },
        _ => Who::Listed { users: BTreeSet::new(), groups: [[STAFF, GUESTS][rng.usize(0..2)]].into() },
    }
}

fn draw_pool(rng: &mut Rng, name: &str, grace: Duration, start_timeout: Duration) -> PoolPolicy {
    let mut policy = PoolPolicy::new(pool(name), rng.u32(1..4));
    policy.timeout = (rng.u32(0..4) == 0).then(|| ms(rng.u64(20..200)));
    policy.grace = grace;
    policy.start_timeout = start_timeout;
    policy.standby = if rng.u32(0..3) == 0 { rng.u32(1..3) } else { 0 };
    draw_wear(rng, &mut policy);
    if rng.bool() {
        policy.when_degraded = WhenDegraded::Refuse;
    }
    if rng.u32(0..4) == 0 {
        policy.functions = Some(functions().into_iter().filter(|_| rng.u32(0..4) > 0).collect());
    }
    policy
}

fn draw_wear(rng: &mut Rng, policy: &mut PoolPolicy) {
    policy.max_attempts = (rng.u32(0..4) == 0).then(|| rng.u64(1..20));
    policy.max_lifetime = (rng.u32(0..4) == 0).then(|| ms(rng.u64(20..400)));
    policy.max_rss_bytes = rng.bool().then_some(RSS_BYTES_MAX);
}

/// What a reload makes of a policy: one or two changes.
pub fn change(rng: &mut Rng, policy: &Policy) -> Policy {
    let mut changed = policy.clone();
    for _ in 0..rng.u32(1..3) {
        let index = rng.usize(0..changed.pools.len());
        match rng.u32(0..12) {
            8 => changed.pools[index].standby = rng.u32(0..3),
            9 => {
                draw_wear(rng, &mut changed.pools[index]);
                changed.quarantine_after = draw_quarantine(rng);
            }
            0..=2 => changed.pools[index].workers = rng.u32(1..5),
            3 => changed.pools[index].revision += 1,
            4 => {
                let all = functions();
                let some = all.into_iter().filter(|_| rng.u32(0..3) > 0).collect();
                changed.pools[index].functions = rng.bool().then_some(some);
            }
            5 if changed.pools.len() > 1 => {
                changed.pools.remove(index);
            }
            6 => {
                if let Some(name) =
                    POOLS.iter().find(|name| changed.pools.iter().all(|p| p.name.as_str() != **name))
                {
                    let added = draw_pool(rng, name, policy.pools[0].grace, policy.pools[0].start_timeout);
                    changed.pools.insert(rng.usize(0..=index), added);
                }
            }
            10 => changed.access = draw_access(rng),
            11 => draw_user_limits(rng, &mut changed),
            _ => {
                changed.queue_tasks_max = rng.u64(3..50);
                changed.results_max = rng.u64(1..10);
                changed.pools[index].timeout = rng.bool().then(|| ms(rng.u64(20..200)));
            }
        }
    }
    changed
}
