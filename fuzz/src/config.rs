//! The configuration: any text is one, or is refused in one line with a place that is in it.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use poold::daemon::config::{Config, ConfigError, Source, reload};
use poold::id::Uid;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::pwrite;

use super::draw::Draw;
use super::names::is_one_line;

/// Pieces of which a file is made that comes far: a byte of the input is one of them, or a character.
pub const PIECES: &[&str] = &[
    "\n",
    " = ",
    "[",
    "]",
    "{ ",
    " }",
    ", ",
    ".",
    "\"",
    "'",
    "#",
    "\"\"\"",
    "-",
    "0",
    "1",
    "7",
    "true",
    "false",
    "18446744073709551615",
    "9223372036854775807",
    "0x7f",
    "1e9",
    "\"\"",
    "\"1\"",
    "\"0660\"",
    "\"9999\"",
    "\"30s\"",
    "\"1h 30m\"",
    "\"500000000000y\"",
    "\"0s\"",
    "\"64 MiB\"",
    "\"1e30 GB\"",
    "\"-1 B\"",
    "\"queue\"",
    "\"refuse\"",
    "\"/x\"",
    "\"x\"",
    "\"{0}\"",
    "\"{*}\"",
    "\"a{1}b{2}\"",
    "\"{1024}\"",
    "\"--\"",
    "\"-o{0}\"",
    "\"(a|b)*{3,9}\"",
    "\"(\"",
    "\"\\u0000\"",
    "\"é\"",
    "\"\\n\"",
    "[pool.cpu]\n",
    "[pool.\"é\"]\n",
    "[pool.io]\n",
    "[limits]\n",
    "[restart]\n",
    "[function.f]\n",
    "[function.f.env]\n",
    "exec = [\"p\", \"{0}\", \"{*}\"]\n",
    "exec = ",
    "summary = ",
    "stdin = ",
    "args = ",
    "min = ",
    "max = ",
    "patterns = ",
    "options = ",
    "timeout = ",
    "cwd = ",
    "env = ",
    "POOLD_X",
    "LANG",
    "workers = ",
    "threads = ",
    "functions = ",
    "except = ",
    "grace = ",
    "start_timeout = ",
    "standby = ",
    "max_attempts = ",
    "max_lifetime = ",
    "max_rss = ",
    "when_degraded = ",
    "command = ",
    "socket = ",
    "socket_mode = ",
    "socket_group = ",
    "allow_fault_injection = ",
    "[access]\n",
    "[access.run]\n",
    "connect = ",
    "administer = ",
    "run = ",
    "\"*\" = ",
    "[\"root\", \"@0\"]",
    "\"*\"",
    "memory = ",
    "cpu_time = ",
    "open_files = ",
    "processes = ",
    "file_size = ",
    "core = ",
    "user_",
    "drain_timeout = ",
    "quarantine_after = ",
    "connections = ",
    "queue_tasks = ",
    "queue_bytes = ",
    "unread_bytes = ",
    "results = ",
    "result_bytes = ",
    "result_age = ",
    "intensity = ",
    "period = ",
    "backoff_min = ",
    "backoff_max = ",
];

// So that every character is there too.
const _: () = assert!(PIECES.len() <= 128);

/// A file as it is.
pub fn config(input: &[u8]) {
    read(input);
}

/// Two files put together out of what files are made of: one is read, then the other in its place.
pub fn settings(input: &[u8]) {
    let mut draw = Draw::new(input);
    let length = draw.below(256);
    let before = text(draw.bytes(length));
    let after = text(draw.bytes(usize::MAX));
    if let Some((before, _)) = read(before.as_bytes())
        && let Some((after, file)) = read(after.as_bytes())
    {
        let policy = before.policy(Uid(1), None);
        let changed = after.policy(Uid(1), Some((&before, &policy)));
        assert_eq!(policy == changed, before.policy(Uid(1), None) == changed);
        match reload(&file.source, &before) {
            Ok((config, changes)) => {
                assert_eq!(config, after);
                changes.iter().for_each(is_one_line);
                assert_eq!(changes.is_empty(), before == after, "{changes:?}");
            }
            Err(error) => is_one_line(&error),
        }
    }
}

fn text(input: &[u8]) -> String {
    let piece = |byte: &u8| match PIECES.get(usize::from(*byte)) {
        Some(piece) => (*piece).to_owned(),
        None => char::from(*byte % 128).to_string(),
    };
    input.iter().map(piece).collect()
}

/// A file in memory, as long as this is.
struct File {
    source: Source,
    _held: OwnedFd,
}

impl File {
    fn of(bytes: &[u8]) -> Self {
        let file = memfd_create(c"poold.toml", MemfdFlags::CLOEXEC).expect("there is memory");
        ftruncate(&file, bytes.len() as u64).expect("it can be of any size");
        let mut written = 0;
        while written < bytes.len() {
            written += pwrite(&file, &bytes[written..], written as u64).expect("it can be written");
        }
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        File { source: Source { file: Some(path), ..Source::default() }, _held: file }
    }
}

fn read(bytes: &[u8]) -> Option<(Config, File)> {
    let file = File::of(bytes);
    match file.source.read() {
        Ok(config) => {
            config.policy(Uid(1), None);
            Some((config, file))
        }
        Err(error) => {
            check(&error, bytes);
            None
        }
    }
}

fn check(error: &ConfigError, bytes: &[u8]) {
    is_one_line(error);
    let ConfigError::Mistake { line, column, .. } = error else {
        panic!("{error}");
    };
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let place = line.checked_sub(1).and_then(|index| lines.get(index));
    let place = place.unwrap_or_else(|| panic!("there are {} lines: {error}", lines.len()));
    let columns = String::from_utf8_lossy(place).chars().count() + 1;
    assert!((1..=columns).contains(column), "the line has {columns} columns: {error}");
}
