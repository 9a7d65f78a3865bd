//! What a program asks of a pool of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::PrivateError;
use crate::daemon::config::{Config, Pool};
use crate::id::{BadName, FunctionName, PoolName};
use crate::limits::{THREADS_PER_WORKER_MAX, WORKERS_PER_POOL_MAX};

/// A pool of a private supervisor's: how many workers, and what holds for what they run. What is not set
/// is as in a daemon's configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[must_use]
pub struct PoolOptions {
    name: String,
    workers: Option<u32>,
    threads: Option<u32>,
    functions: Option<Vec<String>>,
    timeout: Option<Duration>,
    grace: Option<Duration>,
    start_timeout: Option<Duration>,
    standby: Option<u32>,
    max_attempts: Option<u32>,
    env: BTreeMap<String, String>,
}

impl PoolOptions {
    /// A pool of that name, with a worker per core that runs one call at a time.
    pub fn new(name: &str) -> Self {
        PoolOptions {
            name: name.to_owned(),
            workers: None,
            threads: None,
            functions: None,
            timeout: None,
            grace: None,
            start_timeout: None,
            standby: None,
            max_attempts: None,
            env: BTreeMap::new(),
        }
    }

    /// How many processes: 1 to 4,096.
    pub fn workers(self, workers: u32) -> Self {
        PoolOptions { workers: Some(workers), ..self }
    }

    /// How many calls each process runs at a time, on threads of its own: 1 to 256.
    pub fn threads(self, threads: u32) -> Self {
        PoolOptions { threads: Some(threads), ..self }
    }

    /// The functions that it serves; by default all that the program has. A call goes to the first pool
    /// that serves its function.
    pub fn functions<'a>(self, functions: impl IntoIterator<Item = &'a str>) -> Self {
        PoolOptions { functions: Some(functions.into_iter().map(str::to_owned).collect()), ..self }
    }

    /// For each attempt of a call that names none.
    pub fn timeout(self, timeout: Duration) -> Self {
        PoolOptions { timeout: Some(timeout), ..self }
    }

    /// How long a worker may go on after it was told to end.
    pub fn grace(self, grace: Duration) -> Self {
        PoolOptions { grace: Some(grace), ..self }
    }

    /// How long a worker may take to become ready, its initializers included.
    pub fn start_timeout(self, start_timeout: Duration) -> Self {
        PoolOptions { start_timeout: Some(start_timeout), ..self }
    }

    /// How many processes stand by, ready, beside the workers, to take the place of one that is lost: 0 to
    /// 4,096; by default none.
    pub fn standby(self, standby: u32) -> Self {
        PoolOptions { standby: Some(standby), ..self }
    }

    /// The calls after which a worker is replaced, or up to a tenth fewer, drawn by lot: at least 1. By
    /// default it never is.
    pub fn max_attempts(self, max_attempts: u32) -> Self {
        PoolOptions { max_attempts: Some(max_attempts), ..self }
    }

    /// Adds a variable to the environment of its workers.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// As the daemon takes it.
    fn into_pool(self) -> Result<Pool, PrivateError> {
        let name = PoolName::new(&self.name)?;
        let in_range = |what, number: Option<u32>, min, max| match number {
            Some(number) if !(min..=max).contains(&number) => {
                Err(PrivateError::OutOfRange { pool: name.clone(), what, min, max })
            }
            Some(_) | None => Ok(number),
        };
        let workers = in_range("workers", self.workers, 1, WORKERS_PER_POOL_MAX)?;
        let threads = in_range("threads", self.threads, 1, THREADS_PER_WORKER_MAX)?;
        let standby = in_range("standby workers", self.standby, 0, WORKERS_PER_POOL_MAX)?;
        let max_attempts = in_range("attempts of a worker", self.max_attempts, 1, u32::MAX)?;
        let functions = self.functions.map(|functions| {
            functions.iter().map(|function| FunctionName::new(function)).collect::<Result<_, BadName>>()
        });
        let defaults = Pool::new(name);
        Ok(Pool {
            workers: workers.unwrap_or(defaults.workers),
            threads: threads.unwrap_or(defaults.threads),
            functions: functions.transpose()?,
            timeout: self.timeout,
            grace: self.grace.unwrap_or(defaults.grace),
            start_timeout: self.start_timeout.unwrap_or(defaults.start_timeout),
            standby: standby.unwrap_or(defaults.standby),
            max_attempts: max_attempts.map(u64::from),
            env: self.env,
            ..defaults
        })
    }
}

/// A daemon's configuration with these pools.
pub(super) fn config(options: impl IntoIterator<Item = PoolOptions>) -> Result<Config, PrivateError> {
    let pools =
        options.into_iter().map(PoolOptions::into_pool).collect::<Result<Vec<Pool>, PrivateError>>()?;
    if pools.is_empty() {
        return Err(PrivateError::NoPool);
    }
    for (index, pool) in pools.iter().enumerate() {
        if pools[..index].iter().any(|other| other.name == pool.name) {
            return Err(PrivateError::PoolTwice(pool.name.clone()));
        }
    }
    // The program knows its own functions, and nobody could release one.
    Ok(Config { pools, quarantine_after: None, ..Config::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(options: impl IntoIterator<Item = PoolOptions>) -> String {
        config(options).expect_err("a mistake").to_string()
    }

    #[test]
    fn options_become_a_pool() {
        let options = PoolOptions::new("io")
            .workers(2)
            .threads(8)
            .functions(["fetch"])
            .timeout(Duration::from_secs(1))
            .env("NAME", "value");
        let config = config([options]).expect("they are in order");
        let pool = &config.pools[0];
        assert_eq!((pool.name.as_str(), pool.workers, pool.threads), ("io", 2, 8));
        assert_eq!(pool.functions, Some(vec![FunctionName::new("fetch").expect("a name")]));
        assert_eq!(pool.timeout, Some(Duration::from_secs(1)));
        assert_eq!(pool.env["NAME"], "value");
    }

    #[test]
    fn what_is_not_set_is_as_in_a_configuration() {
        let config = config([PoolOptions::new("cpu")]).expect("they are in order");
        let cpu = Pool::new(PoolName::new("cpu").expect("a name"));
        assert_eq!(config, Config { pools: vec![cpu], quarantine_after: None, ..Config::default() });
    }

    #[test]
    fn mistakes_say_what_is_right() {
        let cpu = || PoolOptions::new("cpu");
        assert_eq!(mistake([cpu().workers(0)]), "pool `cpu` takes 1 to 4096 workers");
        assert_eq!(mistake([cpu().threads(257)]), "pool `cpu` takes 1 to 256 threads");
        assert_eq!(mistake([cpu(), cpu()]), "there are two pools `cpu`; give each a name of its own");
        assert_eq!(mistake([]), "there is no pool; give at least one");
        assert_eq!(mistake([cpu().standby(4097)]), "pool `cpu` takes 0 to 4096 standby workers");
        assert_eq!(mistake([cpu().max_attempts(0)]), "pool `cpu` takes 1 to 4294967295 attempts of a worker");
        assert!(mistake([PoolOptions::new("my pool")]).contains("`my pool` is not a pool name"));
        assert!(mistake([cpu().functions(["my function"])]).contains("is not a function name"));
    }
}
