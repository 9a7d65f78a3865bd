//! What an operator sets: a TOML file, flags over it, defaults below it.
//!
//! ```text
//!   limits.rs ──> defaults <── file (file.rs, one `Section` per table) <── flags
//!                                   │
//!                                 Config ──> Policy, what the supervisor keeps to
//!                                   │
//!                   reload.rs: what may change while running, and what did
//! ```
//!
//! No file is read unless one is named. It changes nothing by itself: whoever holds a [`Config`] acts
//! on it.

mod access;
pub(super) mod accounts;
mod environment;
mod file;
mod function;
mod reload;
mod resources;
mod section;

pub use environment::EnvironmentPass;
pub use reload::reload;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::id::{FunctionName, PoolName, Uid};
use crate::limits;
use crate::message::command::CommandSpec;
use crate::message::resources::{AttemptLimits, WorkLimits};
use crate::supervisor::{Access, Policy, PoolPolicy, RestartPolicy, WhenDegraded};

/// The pool for functions that compute, when the file names no pool.
const CPU_POOL: &str = "cpu";

/// The pool for functions that wait for others, when the file names no pool.
const IO_POOL: &str = "io";

/// Attempts that the one worker of the default [`IO_POOL`] runs at a time.
const IO_THREADS: u32 = 32;

/// The functions of the default [`IO_POOL`], which [`CPU_POOL`] leaves to it.
const IO_FUNCTIONS: [&str; 1] = ["load_url"];

/// Everything that can be configured, with flags and defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where to listen, if the file or a flag says so.
    pub socket: Option<PathBuf>,
    /// The permission bits of the socket, whatever the umask.
    pub socket_mode: u32,
    /// The group of the socket.
    pub socket_group: Option<String>,
    /// Whether functions that show faults (`crash`, `spin`) can be run.
    pub allow_fault_injection: bool,
    /// Who may do what.
    pub access: Access,
    /// How long running tasks may go on after a request to stop.
    pub drain_timeout: Duration,
    /// The caps.
    pub limits: Limits,
    /// How failing workers are restarted.
    pub restart: RestartPolicy,
    /// Workers that a function's tasks may kill in a row before it is quarantined; by none, it never is.
    pub quarantine_after: Option<u32>,
    /// What is set for functions, in the order of the file.
    pub functions: Vec<Function>,
    /// The pools, in the order of the file.
    pub pools: Vec<Pool>,
}

/// The caps that can be configured. Those of one user do not bind root and the user that the daemon runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client connections open at a time.
    pub connections: usize,
    /// Connections of one user.
    pub user_connections: usize,
    /// Tasks accepted and not done.
    pub queue_tasks: u64,
    /// Such tasks of one user.
    pub user_tasks: u64,
    /// Bytes in the largest arguments and in the largest result.
    pub payload_bytes: u64,
    /// Bytes of the arguments of tasks that are not done.
    pub queue_bytes: u64,
    /// Bytes of the arguments of one user's tasks.
    pub user_bytes: u64,
    /// Bytes of unread outcomes of one client before its pending tasks are held back.
    pub unread_bytes: usize,
    /// Bytes of unread outcomes of all clients before each may leave little unread.
    pub all_unread_bytes: usize,
    /// Results of detached tasks that are kept.
    pub results: u64,
    /// Kept results of one user.
    pub user_results: u64,
    /// Bytes of results that are kept.
    pub result_bytes: u64,
    /// Bytes of one user's kept results.
    pub user_result_bytes: u64,
    /// How long results are kept.
    pub result_age: Duration,
}

/// A function that runs a command, for every pool whose workers are poold's own; or, without a command, what
/// holds for a function that workers have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: FunctionName,
    /// What workers are told of it, if it runs a command.
    pub command: Option<CommandSpec>,
    /// For each attempt of a task that names none; by default the pool's.
    pub timeout: Option<Duration>,
    /// What each attempt may use.
    pub limits: AttemptLimits,
}

/// What each worker of a pool may use of the machine, together with all that it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolLimits {
    /// Bytes of memory: of all its processes together where there is a cgroup; else of address space of each.
    pub memory_bytes: Option<u64>,
    /// Processor time of each attempt.
    pub cpu_time: Option<Duration>,
    /// Descriptors that a process may have open.
    pub open_files: Option<u64>,
    /// Processes and threads, itself included. Only a cgroup can limit them.
    pub processes: Option<u64>,
    /// Bytes in the largest file that it may write.
    pub file_size_bytes: Option<u64>,
    /// Bytes in the largest core dump.
    pub core_bytes: u64,
}

/// One pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: PoolName,
    /// Processes.
    pub workers: u32,
    /// Attempts that a worker runs at a time, each on a thread of its own.
    pub threads: u32,
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
    /// Processes that stand by, ready, beside those.
    pub standby: u32,
    /// Attempts after which a worker is replaced, or up to a tenth fewer.
    pub max_attempts: Option<u64>,
    /// How long after it was ready a worker is replaced, or up to a tenth earlier.
    pub max_lifetime: Option<Duration>,
    /// Bytes of resident memory beyond which a worker is replaced, measured after each attempt.
    pub max_rss_bytes: Option<u64>,
    /// What becomes of new tasks while its workers keep failing.
    pub when_degraded: WhenDegraded,
    /// Another program to run as the worker, and its arguments; by default the built-in functions.
    pub command: Option<Vec<String>>,
    /// The variables that workers inherit.
    pub env_pass: EnvironmentPass,
    /// Variables added to the workers' environment.
    pub env: BTreeMap<String, String>,
    /// What each worker may use of the machine.
    pub limits: PoolLimits,
    /// Whether workers are shut in.
    pub sandbox: bool,
}

/// Where a configuration comes from: a file, and the flags that are laid over it each time it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The file, if one was named.
    pub file: Option<PathBuf>,
    /// Where to listen, whatever the file says.
    pub socket: Option<PathBuf>,
    /// Workers of the only pool, or of the default pool that computes, whatever the file says.
    pub workers: Option<u32>,
}

/// Why there is no configuration. Nothing has changed; the text is one line that says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}; check the path and who may read it", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file holds a mistake. Mend it at that place.
    #[error("{}:{line}:{column}: {message}", .file.display())]
    Mistake {
        /// The file.
        file: PathBuf,
        /// Counts from 1.
        line: usize,
        /// In characters; counts from 1.
        column: usize,
        /// What is wrong there, and what would be right.
        message: String,
    },
    /// The flag `--socket` cannot be used.
    #[error("--socket: {0}")]
    BadSocketFlag(String),
    /// The flag `--workers` does not say which pool it is for.
    #[error("--workers: {} has several pools ({pools}); set `workers` of each in the file", .file.display())]
    WorkersOfWhichPool {
        /// The file.
        file: PathBuf,
        /// Their names.
        pools: String,
    },
    /// Another socket was asked for while the daemon runs. Restart it, or undo the change.
    #[error("socket cannot change while running: restart poold")]
    SocketChanged,
    /// A reload was asked for and no file was named at the start.
    #[error("poold was started without --config and has no file to read again; restart it with one")]
    NoFile,
}

impl Default for Config {
    /// A pool with a worker per available core, one of threads for what waits, and [`limits`] for the rest.
    fn default() -> Self {
        Config::with_pools(default_pools())
    }
}

impl Config {
    /// These pools, and [`limits`] for the rest.
    pub(crate) fn with_pools(pools: Vec<Pool>) -> Self {
        Config {
            socket: None,
            socket_mode: limits::SOCKET_MODE,
            socket_group: None,
            allow_fault_injection: false,
            access: Access::default(),
            drain_timeout: limits::DRAIN_TIMEOUT,
            limits: Limits::default(),
            restart: RestartPolicy::default(),
            quarantine_after: Some(limits::QUARANTINE_AFTER),
            functions: Vec::new(),
            pools,
        }
    }
}

/// The pools there are when the file names none.
fn default_pools() -> Vec<Pool> {
    // They are within the length and the characters of a name.
    let name = |name| PoolName::new(name).expect("the default pools have valid names");
    let function = |name| FunctionName::new(name).expect("the built-in functions have valid names");
    if cfg!(not(feature = "http")) {
        return vec![Pool::new(name(CPU_POOL))];
    }
    let functions: Vec<FunctionName> = IO_FUNCTIONS.map(function).into();
    let cpu = Pool { except: functions.clone(), ..Pool::new(name(CPU_POOL)) };
    let io = Pool::with_workers(name(IO_POOL), 1);
    let io = Pool { threads: IO_THREADS, functions: Some(functions), ..io };
    vec![cpu, io]
}

/// As many as there are cores for this process. To ask takes a dozen system calls.
pub(crate) fn workers_by_default() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    u32::try_from(cores).unwrap_or(u32::MAX).min(limits::WORKERS_PER_POOL_MAX)
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: limits::CONNECTIONS_MAX,
            user_connections: user_share(limits::CONNECTIONS_MAX as u64) as usize,
            queue_tasks: limits::QUEUE_TASKS_MAX,
            user_tasks: user_share(limits::QUEUE_TASKS_MAX),
            payload_bytes: limits::PAYLOAD_BYTES_MAX,
            queue_bytes: limits::QUEUE_BYTES_MAX,
            user_bytes: user_share(limits::QUEUE_BYTES_MAX),
            unread_bytes: limits::UNREAD_BYTES_MAX,
            all_unread_bytes: limits::ALL_UNREAD_BYTES_MAX,
            results: limits::RESULTS_MAX,
            user_results: user_share(limits::RESULTS_MAX),
            result_bytes: limits::RESULT_BYTES_MAX,
            user_result_bytes: user_share(limits::RESULT_BYTES_MAX),
            result_age: limits::RESULT_AGE_MAX,
        }
    }
}

/// What one user may take of something that all share, unless the file says otherwise; at least 1.
const fn user_share(whole: u64) -> u64 {
    match whole / limits::USER_SHARE {
        0 => 1,
        share => share,
    }
}

impl Pool {
    /// A pool with a worker per available core, and every other option at its default.
    ///
    /// Available are the cores that the process may be scheduled on, less what a cgroup's quota denies.
    pub fn new(name: PoolName) -> Self {
        Pool::with_workers(name, workers_by_default())
    }

    /// With so many workers, and all else as it is by default.
    pub(crate) fn with_workers(name: PoolName, workers: u32) -> Self {
        Pool {
            name,
            workers,
            threads: 1,
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
            command: None,
            env_pass: EnvironmentPass::default(),
            env: BTreeMap::new(),
            limits: PoolLimits::default(),
            sandbox: true,
        }
    }

    /// Whether it serves `function`, if its workers have it.
    pub fn serves(&self, function: &FunctionName) -> bool {
        self.functions.as_ref().is_none_or(|functions| functions.contains(function))
            && !self.except.contains(function)
    }
}

impl Source {
    /// Reads the file, fills in defaults and lays the flags over it.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be read, holds a mistake, or does not go with the flags.
    pub fn read(&self) -> Result<Config, ConfigError> {
        let mut config = match &self.file {
            Some(file) => read_file(file)?,
            None => Config::default(),
        };
        if let Some(path) = &self.socket {
            file::check_socket_length(path).map_err(ConfigError::BadSocketFlag)?;
            config.socket = Some(path.clone());
        }
        if let Some(workers) = self.workers {
            let are_default = config.pools == default_pools();
            match config.pools.as_mut_slice() {
                [pool] => pool.workers = workers,
                [cpu, ..] if are_default => cpu.workers = workers,
                pools => {
                    let names: Vec<&str> = pools.iter().map(|pool| pool.name.as_str()).collect();
                    let file = self.file.clone().unwrap_or_default();
                    return Err(ConfigError::WorkersOfWhichPool { file, pools: names.join(", ") });
                }
            }
        }
        Ok(config)
    }
}

fn read_file(file: &Path) -> Result<Config, ConfigError> {
    let bytes =
        std::fs::read(file).map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
    file::parse(&bytes).map_err(|mistake| {
        let (line, column) = mistake.position(&bytes);
        ConfigError::Mistake { file: file.to_owned(), line, column, message: mistake.message }
    })
}

impl Config {
    /// What the supervisor is to keep to, for a daemon that runs as `daemon_user`.
    ///
    /// `before` is what was in force until now: a pool whose workers are started in another way since
    /// then gets its next revision, so that they are replaced.
    pub fn policy(&self, daemon_user: Uid, before: Option<(&Config, &Policy)>) -> Policy {
        let pools = self.pools.iter().map(|pool| PoolPolicy {
            functions: pool.functions.clone(),
            except: pool.except.clone(),
            timeout: pool.timeout,
            grace: pool.grace,
            start_timeout: pool.start_timeout,
            standby: pool.standby,
            max_attempts: pool.max_attempts,
            max_lifetime: pool.max_lifetime,
            max_rss_bytes: pool.max_rss_bytes,
            when_degraded: pool.when_degraded,
            revision: before.map_or(0, |(config, policy)| self.revision(pool, config, policy)),
            ..PoolPolicy::new(pool.name.clone(), pool.workers)
        });
        Policy {
            queue_tasks_max: self.limits.queue_tasks,
            payload_bytes_max: self.limits.payload_bytes,
            queue_bytes_max: self.limits.queue_bytes,
            user_tasks_max: self.limits.user_tasks,
            user_bytes_max: self.limits.user_bytes,
            result_age_max: self.limits.result_age,
            results_max: self.limits.results,
            result_bytes_max: self.limits.result_bytes,
            user_results_max: self.limits.user_results,
            user_result_bytes_max: self.limits.user_result_bytes,
            drain_timeout: self.drain_timeout,
            restart: self.restart,
            quarantine_after: self.quarantine_after,
            access: self.access.clone(),
            function_timeouts: self.function_timeouts(),
            ..Policy::new(pools.collect(), daemon_user)
        }
    }

    /// The pool of that name.
    pub fn pool(&self, name: &PoolName) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.name == *name)
    }

    /// The functions that run a command in the workers of `pool`: in those of another program, none.
    pub fn commands_of(&self, pool: &Pool) -> Arc<[CommandSpec]> {
        let functions = if pool.command.is_none() { self.functions.as_slice() } else { &[] };
        functions.iter().filter_map(|function| function.command.clone()).collect()
    }

    /// What the attempts of workers of `pool` may use.
    pub fn work_limits_of(&self, pool: &Pool) -> WorkLimits {
        let in_workers = |function: &&Function| {
            function.command.is_none() && !function.limits.is_empty() && pool.serves(&function.name)
        };
        let by_function = self.functions.iter().filter(in_workers);
        WorkLimits {
            each: AttemptLimits { cpu_time: pool.limits.cpu_time, ..AttemptLimits::default() },
            by_function: by_function.map(|function| (function.name.clone(), function.limits)).collect(),
        }
    }

    fn function_timeouts(&self) -> BTreeMap<FunctionName, Duration> {
        let timeout = |function: &Function| Some((function.name.clone(), function.timeout?));
        self.functions.iter().filter_map(timeout).collect()
    }

    fn revision(&self, pool: &Pool, config_before: &Config, policy_before: &Policy) -> u64 {
        let policy_of_pool = policy_before.pools.iter().find(|policy| policy.name == pool.name);
        match (config_before.pool(&pool.name), policy_of_pool) {
            (Some(pool_before), Some(policy_of_pool)) => {
                let same_start = self.allow_fault_injection == config_before.allow_fault_injection
                    && self.limits.payload_bytes == config_before.limits.payload_bytes
                    && pool.threads == pool_before.threads
                    && pool.command == pool_before.command
                    && self.commands_of(pool) == config_before.commands_of(pool_before)
                    && pool.env_pass == pool_before.env_pass
                    && pool.env == pool_before.env
                    && pool.sandbox == pool_before.sandbox
                    && pool.limits == pool_before.limits
                    && self.work_limits_of(pool) == config_before.work_limits_of(pool_before);
                policy_of_pool.revision + u64::from(!same_start)
            }
            (None, _) | (_, None) => 0,
        }
    }
}
