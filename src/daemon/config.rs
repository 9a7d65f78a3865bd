//! What an operator sets: a TOML file, flags over it, defaults below it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::id::{FunctionName, PoolName};
use crate::supervisor::RestartPolicy;

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
    /// How long running tasks may go on after a request to stop.
    pub drain_timeout: Duration,
    /// The caps.
    pub limits: Limits,
    /// How failing workers are restarted.
    pub restart: RestartPolicy,
    /// The pools, in the order of the file.
    pub pools: Vec<Pool>,
}

/// The caps that can be configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client connections open at a time.
    pub connections: usize,
    /// Tasks accepted and not done.
    pub queue_tasks: u64,
    /// Bytes of their arguments.
    pub queue_bytes: u64,
    /// Bytes of unread outcomes of one client before its pending tasks are held back.
    pub unread_bytes: usize,
    /// Results of detached tasks that are kept.
    pub results: u64,
    /// Bytes of results that are kept.
    pub result_bytes: u64,
    /// How long results are kept.
    pub result_age: Duration,
}

/// One pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: PoolName,
    /// Processes.
    pub workers: u32,
    /// The functions it serves; by default all that its workers have.
    pub functions: Option<Vec<FunctionName>>,
    /// For each attempt of a task that names none.
    pub timeout: Option<Duration>,
    /// How long a worker may go on after it was told to end.
    pub grace: Duration,
    /// How long a worker may take to become ready.
    pub start_timeout: Duration,
    /// Another program to run as the worker, and its arguments; by default the built-in functions.
    pub command: Option<Vec<String>>,
    /// Variables added to the workers' environment.
    pub env: BTreeMap<String, String>,
}
