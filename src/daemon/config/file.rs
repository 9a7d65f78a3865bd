//! The keys of the file: what each means, its range, and what goes together.
//!
//! The same keys with their defaults are written out in `systemd/poold.toml`.

use std::path::{Path, PathBuf};

use super::section::{Mistake, Section, Word};
use super::{
    Config, Limits, Pool, access, default_pools, environment, function, resources, user_share,
    workers_by_default,
};
use crate::id::{FunctionName, PoolName};
use crate::limits;
use crate::supervisor::{RestartPolicy, WhenDegraded};

/// A count that has no cap but must not be zero.
const FROM_ONE: std::ops::RangeInclusive<u64> = 1..=u64::MAX;

/// A configuration out of a file's bytes, with defaults filled in.
pub(super) fn parse(bytes: &[u8]) -> Result<Config, Mistake> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Mistake::new(error.valid_up_to(), "not UTF-8; save the file as UTF-8".to_owned()))?;
    // To count the cores for pools that the file does not want takes a while.
    let default = Config::with_pools(Vec::new());
    let mut top = Section::parse(text)?;
    let config = Config {
        socket: socket(&mut top)?,
        socket_mode: socket_mode(&mut top)?.unwrap_or(default.socket_mode),
        socket_group: top.text("socket_group")?,
        allow_fault_injection: top.flag("allow_fault_injection")?.unwrap_or(default.allow_fault_injection),
        access: access::access(top.section("access")?, default.access)?,
        drain_timeout: top.duration("drain_timeout")?.unwrap_or(default.drain_timeout),
        limits: limits(top.section("limits")?, default.limits)?,
        restart: restart(top.section("restart")?, default.restart)?,
        quarantine_after: quarantine_after(&mut top)?.unwrap_or(default.quarantine_after),
        functions: Vec::new(),
        pools: pools(top.section("pool")?)?.unwrap_or_else(default_pools),
    };
    let functions = function::functions(top.section("function")?, &config.pools)?;
    top.finish()?;
    let config = Config { functions, ..config };
    Ok(config)
}

/// Whether a socket can have that path, and if not, why.
pub(super) fn check_socket_length(path: &Path) -> Result<(), String> {
    let bytes = path.as_os_str().len();
    let bytes_max = limits::SOCKET_PATH_BYTES_MAX;
    match bytes {
        0 => Err("the path is empty; name a path".to_owned()),
        _ if bytes > bytes_max => {
            Err(format!("the path takes {bytes} bytes and {bytes_max} is the most; choose a shorter one"))
        }
        _ => Ok(()),
    }
}

fn socket(top: &mut Section<'_>) -> Result<Option<PathBuf>, Mistake> {
    let Some(path) = top.text("socket")?.map(PathBuf::from) else { return Ok(None) };
    if !path.is_absolute() {
        return Err(top.mistake("socket", "`socket` takes a path that starts with `/`".to_owned()));
    }
    check_socket_length(&path).map_err(|message| top.mistake("socket", format!("`socket`: {message}")))?;
    Ok(Some(path))
}

fn socket_mode(top: &mut Section<'_>) -> Result<Option<u32>, Mistake> {
    top.value("socket_mode", r#"octal permission bits in quotes such as "0660""#, |value| {
        let digits = value.as_str().filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))?;
        u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o777)
    })
}

/// Nothing if the file does not say; 0 for never.
fn quarantine_after(top: &mut Section<'_>) -> Result<Option<Option<u32>>, Mistake> {
    let killed: Option<u32> = top.number("quarantine_after", 0..=u64::from(u32::MAX))?;
    Ok(killed.map(|killed| (killed > 0).then_some(killed)))
}

fn when_degraded(section: &mut Section<'_>) -> Result<Option<WhenDegraded>, Mistake> {
    section.value("when_degraded", r#""queue" or "refuse""#, |value| match value.as_str()? {
        "queue" => Some(WhenDegraded::Queue),
        "refuse" => Some(WhenDegraded::Refuse),
        _ => None,
    })
}

fn limits(mut section: Section<'_>, default: Limits) -> Result<Limits, Mistake> {
    let connections = section.number("connections", FROM_ONE)?.unwrap_or(default.connections);
    let queue_tasks = section.number("queue_tasks", FROM_ONE)?.unwrap_or(default.queue_tasks);
    let queue_bytes = section.bytes("queue_bytes")?.unwrap_or(default.queue_bytes);
    let results = section.number("results", FROM_ONE)?.unwrap_or(default.results);
    let result_bytes = section.bytes("result_bytes")?.unwrap_or(default.result_bytes);
    let limits = Limits {
        connections,
        user_connections: section
            .number("user_connections", FROM_ONE)?
            .unwrap_or(user_share(connections as u64) as usize),
        queue_tasks,
        user_tasks: section.number("user_tasks", FROM_ONE)?.unwrap_or(user_share(queue_tasks)),
        payload_bytes: section.bytes("payload_bytes")?.unwrap_or(default.payload_bytes),
        queue_bytes,
        user_bytes: section.bytes("user_bytes")?.unwrap_or(user_share(queue_bytes)),
        unread_bytes: section.bytes("unread_bytes")?.unwrap_or(default.unread_bytes),
        all_unread_bytes: section.bytes("all_unread_bytes")?.unwrap_or(default.all_unread_bytes),
        results,
        user_results: section.number("user_results", FROM_ONE)?.unwrap_or(user_share(results)),
        result_bytes,
        user_result_bytes: section.bytes("user_result_bytes")?.unwrap_or(user_share(result_bytes)),
        result_age: section.duration("result_age")?.unwrap_or(default.result_age),
    };
    section.finish()?;
    Ok(limits)
}

fn restart(mut section: Section<'_>, default: RestartPolicy) -> Result<RestartPolicy, Mistake> {
    let restart = RestartPolicy {
        intensity: section.number("intensity", 0..=u64::from(u32::MAX))?.unwrap_or(default.intensity),
        period: section.duration("period")?.unwrap_or(default.period),
        backoff_min: section.duration("backoff_min")?.unwrap_or(default.backoff_min),
        backoff_max: section.duration("backoff_max")?.unwrap_or(default.backoff_max),
    };
    if restart.backoff_min > restart.backoff_max {
        let message = format!(
            "`backoff_min` ({}) is longer than `backoff_max` ({}); lower it or raise the other",
            humantime::format_duration(restart.backoff_min),
            humantime::format_duration(restart.backoff_max)
        );
        let set_by_file =
            if restart.backoff_min == default.backoff_min { "backoff_max" } else { "backoff_min" };
        return Err(section.mistake(set_by_file, message));
    }
    section.finish()?;
    Ok(restart)
}

/// The pools in the order of the file; nothing if it names none.
fn pools(mut section: Section<'_>) -> Result<Option<Vec<Pool>>, Mistake> {
    let pools = section.sections()?.into_iter().map(|(name, section)| {
        let name = PoolName::new(&name.text).map_err(|error| Mistake::new(name.offset, error.to_string()))?;
        pool(name, section)
    });
    let pools = pools.collect::<Result<Vec<Pool>, Mistake>>()?;
    Ok((!pools.is_empty()).then_some(pools))
}

fn pool(name: PoolName, mut section: Section<'_>) -> Result<Pool, Mistake> {
    let workers_max = u64::from(limits::WORKERS_PER_POOL_MAX);
    let workers = section.number("workers", 1..=workers_max)?.unwrap_or_else(workers_by_default);
    let default = Pool::with_workers(name, workers);
    let pool = Pool {
        name: default.name,
        workers: default.workers,
        threads: section
            .number("threads", 1..=u64::from(limits::THREADS_PER_WORKER_MAX))?
            .unwrap_or(default.threads),
        functions: functions(&mut section, "functions")?,
        except: functions(&mut section, "except")?.unwrap_or_default(),
        timeout: section.duration("timeout")?,
        grace: section.duration("grace")?.unwrap_or(default.grace),
        start_timeout: section.duration("start_timeout")?.unwrap_or(default.start_timeout),
        standby: section.number("standby", 0..=workers_max)?.unwrap_or(default.standby),
        max_attempts: section.number("max_attempts", FROM_ONE)?,
        max_lifetime: section.duration("max_lifetime")?,
        max_rss_bytes: section.bytes("max_rss")?,
        when_degraded: when_degraded(&mut section)?.unwrap_or(default.when_degraded),
        command: command(&mut section)?,
        env_pass: environment::pass(&mut section)?.unwrap_or(default.env_pass),
        env: environment::added(section.section("env")?)?,
        limits: default.limits,
        sandbox: section.flag("sandbox")?.unwrap_or(default.sandbox),
    };
    let limits = resources::of_pool(&mut section, pool.threads)?;
    section.finish()?;
    Ok(Pool { limits, ..pool })
}

fn functions(section: &mut Section<'_>, key: &'static str) -> Result<Option<Vec<FunctionName>>, Mistake> {
    let Some(texts) = section.texts(key)? else { return Ok(None) };
    let mut functions = Vec::with_capacity(texts.len());
    for Word { offset, text } in texts {
        let name = FunctionName::new(&text).map_err(|error| Mistake::new(offset, error.to_string()))?;
        if functions.contains(&name) {
            return Err(Mistake::new(offset, format!("`{name}` is named twice; remove one of them")));
        }
        functions.push(name);
    }
    Ok(Some(functions))
}

fn command(section: &mut Section<'_>) -> Result<Option<Vec<String>>, Mistake> {
    let Some(words) = section.texts("command")? else { return Ok(None) };
    let words: Vec<String> = words.into_iter().map(|word| word.text).collect();
    match words.first().is_some_and(|program| !program.is_empty()) {
        true => Ok(Some(words)),
        false => Err(section
            .mistake("command", "`command` starts with the name of a program, not an empty text".to_owned())),
    }
}
