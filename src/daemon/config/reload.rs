//! Reading the configuration again: what may change while the daemon runs, and what did.
//!
//! It puts nothing in force.

use std::collections::BTreeSet;

use humantime::format_duration;

use super::{Config, ConfigError, Limits, Pool, PoolLimits, Source};
use crate::id::FunctionName;
use crate::supervisor::{Access, RestartPolicy};

/// How a key is told that has no value.
const NOT_SET: &str = "none";

/// Reads `source` again, with the same flags laid over it, and says in words what differs from `old`.
///
/// # Errors
/// [`ConfigError`] as [`Source::read`] has it, [`ConfigError::NoFile`], and
/// [`ConfigError::SocketChanged`]. `old` stays in force.
pub fn reload(source: &Source, old: &Config) -> Result<(Config, Vec<String>), ConfigError> {
    if source.file.is_none() {
        return Err(ConfigError::NoFile);
    }
    let new = source.read()?;
    if new.socket != old.socket {
        return Err(ConfigError::SocketChanged);
    }
    let mut changes = differences("", settings_of_daemon(old), settings_of_daemon(&new));
    changes.extend(run_changes(&old.access, &new.access));
    changes.extend(function_changes(old, &new));
    changes.extend(pool_changes(old, &new));
    Ok((new, changes))
}

/// A key and what it is set to, as a change is told.
type Setting = (&'static str, String);

fn settings_of_daemon(config: &Config) -> Vec<Setting> {
    let Config {
        socket: _,
        socket_mode,
        socket_group,
        allow_fault_injection,
        access,
        drain_timeout,
        limits,
        restart,
        quarantine_after,
        functions: _,
        pools: _,
    } = config;
    let Access { connect, administer, run: _, run_others } = access;
    let Limits {
        connections,
        user_connections,
        queue_tasks,
        user_tasks,
        payload_bytes,
        queue_bytes,
        user_bytes,
        unread_bytes,
        all_unread_bytes,
        results,
        user_results,
        result_bytes,
        user_result_bytes,
        result_age,
    } = limits;
    let RestartPolicy { intensity, period, backoff_min, backoff_max } = restart;
    vec![
        ("socket_mode", format!("{socket_mode:04o}")),
        ("socket_group", or_not_set(socket_group.as_ref())),
        ("allow_fault_injection", allow_fault_injection.to_string()),
        ("access.connect", connect.to_string()),
        ("access.administer", administer.to_string()),
        ("access.run.*", run_others.to_string()),
        ("drain_timeout", format_duration(*drain_timeout).to_string()),
        ("limits.connections", connections.to_string()),
        ("limits.user_connections", user_connections.to_string()),
        ("limits.queue_tasks", queue_tasks.to_string()),
        ("limits.user_tasks", user_tasks.to_string()),
        ("limits.payload_bytes", payload_bytes.to_string()),
        ("limits.queue_bytes", queue_bytes.to_string()),
        ("limits.user_bytes", user_bytes.to_string()),
        ("limits.unread_bytes", unread_bytes.to_string()),
        ("limits.all_unread_bytes", all_unread_bytes.to_string()),
        ("limits.results", results.to_string()),
        ("limits.user_results", user_results.to_string()),
        ("limits.result_bytes", result_bytes.to_string()),
        ("limits.user_result_bytes", user_result_bytes.to_string()),
        ("limits.result_age", format_duration(*result_age).to_string()),
        ("restart.intensity", intensity.to_string()),
        ("restart.period", format_duration(*period).to_string()),
        ("restart.backoff_min", format_duration(*backoff_min).to_string()),
        ("restart.backoff_max", format_duration(*backoff_max).to_string()),
        ("quarantine_after", or_not_set(*quarantine_after)),
    ]
}

fn or_not_set(value: Option<impl ToString>) -> String {
    value.map_or_else(|| NOT_SET.to_owned(), |value| value.to_string())
}

/// Without the values of the environment: they may be secrets.
fn settings_of_pool(pool: &Pool) -> Vec<Setting> {
    let Pool {
        name: _,
        workers,
        threads,
        functions,
        except,
        timeout,
        grace,
        start_timeout,
        standby,
        max_attempts,
        max_lifetime,
        max_rss_bytes,
        when_degraded,
        command,
        env_pass,
        env: _,
        limits,
        sandbox,
    } = pool;
    let listed =
        |names: &Vec<FunctionName>| names.iter().map(FunctionName::as_str).collect::<Vec<_>>().join(", ");
    let PoolLimits { memory_bytes, cpu_time, open_files, processes, file_size_bytes, core_bytes } = limits;
    vec![
        ("workers", workers.to_string()),
        ("threads", threads.to_string()),
        ("functions", functions.as_ref().map_or_else(|| "all".to_owned(), listed)),
        ("except", if except.is_empty() { NOT_SET.to_owned() } else { listed(except) }),
        ("timeout", or_not_set(timeout.map(format_duration))),
        ("grace", format_duration(*grace).to_string()),
        ("start_timeout", format_duration(*start_timeout).to_string()),
        ("standby", standby.to_string()),
        ("max_attempts", or_not_set(*max_attempts)),
        ("max_lifetime", or_not_set(max_lifetime.map(format_duration))),
        ("max_rss", or_not_set(*max_rss_bytes)),
        ("when_degraded", format!("{when_degraded:?}").to_lowercase()),
        ("command", command.as_ref().map_or("built in".to_owned(), |command| format!("{command:?}"))),
        ("env_pass", env_pass.to_string()),
        ("memory", or_not_set(*memory_bytes)),
        ("cpu_time", or_not_set(cpu_time.map(format_duration))),
        ("open_files", or_not_set(*open_files)),
        ("processes", or_not_set(*processes)),
        ("file_size", or_not_set(*file_size_bytes)),
        ("core", core_bytes.to_string()),
        ("sandbox", sandbox.to_string()),
    ]
}

fn differences(prefix: &str, before: Vec<Setting>, after: Vec<Setting>) -> Vec<String> {
    let pairs = before.into_iter().zip(after).filter(|(before, after)| before != after);
    pairs.map(|((key, before), (_, after))| format!("{prefix}{key} {before} -> {after}")).collect()
}

/// Who may run which function: of every function that either names.
fn run_changes(old: &Access, new: &Access) -> Vec<String> {
    let functions: BTreeSet<&FunctionName> = old.run.keys().chain(new.run.keys()).collect();
    let pairs = functions.into_iter().map(|function| (function, old.to_run(function), new.to_run(function)));
    let changed = pairs.filter(|(_, before, after)| before != after);
    changed.map(|(function, before, after)| format!("access.run.{function} {before} -> {after}")).collect()
}

fn function_changes(old: &Config, new: &Config) -> Vec<String> {
    let find = |config: &'_ Config, name: &FunctionName| {
        config.functions.iter().find(|function| function.name == *name).cloned()
    };
    let mut changes = Vec::new();
    for function in &new.functions {
        let name = &function.name;
        match find(old, name) {
            None => changes.push(format!("function {name}: added")),
            Some(before) if before != *function => changes.push(format!("function {name}: changed")),
            Some(_) => {}
        }
    }
    let removed = old.functions.iter().map(|function| &function.name);
    let removed = removed.filter(|name| find(new, name).is_none());
    changes.extend(removed.map(|name| format!("function {name}: removed")));
    changes
}

fn pool_changes(old: &Config, new: &Config) -> Vec<String> {
    let mut changes = Vec::new();
    for pool in &new.pools {
        let prefix = format!("pool {}: ", pool.name);
        let Some(before) = old.pool(&pool.name) else {
            changes.push(format!("{prefix}added, workers {}", pool.workers));
            continue;
        };
        changes.extend(differences(&prefix, settings_of_pool(before), settings_of_pool(pool)));
        if pool.env != before.env {
            changes.push(format!("{prefix}env changed"));
        }
    }
    let removed = old.pools.iter().filter(|pool| new.pool(&pool.name).is_none());
    changes.extend(removed.map(|pool| format!("pool {}: removed", pool.name)));
    let (before, after) = (order_of_common_pools(old, new), order_of_common_pools(new, old));
    if before != after {
        changes.push(format!("order of pools {} -> {}", before.join(", "), after.join(", ")));
    }
    changes
}

/// The pools of `config` that `other` has too, in the order of `config`.
fn order_of_common_pools<'a>(config: &'a Config, other: &Config) -> Vec<&'a str> {
    let common = config.pools.iter().filter(|pool| other.pool(&pool.name).is_some());
    common.map(|pool| pool.name.as_str()).collect()
}
