//! Chaos: a real daemon, several clients at once, and faults at random; a model knows which outcomes each task may
//! have. What is promised is in `docs/FAULTS.md`.
//!
//! A short run of each is part of `cargo test`. Longer ones:
//!
//! ```text
//! POOLD_CHAOS_TASKS=1000000 cargo test --release --test chaos kills -- --nocapture
//! POOLD_CHAOS_SECONDS=600 cargo test --release --test chaos mayhem -- --nocapture
//! ```

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod faults;
mod footprint;
mod kills;
mod mayhem;
mod model;

use std::env;

use poold::client::Connection;
use poold::message::client::{ReplyBody, RequestBody};
use poold::message::status::Status;
use support::Daemon;

/// A number from the environment, or what an ordinary run takes.
fn variable(name: &str, ordinary: u64) -> u64 {
    let Ok(text) = env::var(name) else { return ordinary };
    text.parse().unwrap_or_else(|_| panic!("{name} is `{text}` and should be a number"))
}

/// A daemon that logs what matters and no more.
fn start(config: &str) -> Daemon {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("poold.toml"), config).unwrap();
    let mut daemon = Daemon::launch_in(dir, |command| _ = command.env("RUST_LOG", "warn"));
    daemon.wait_until_ready();
    daemon
}

fn status(connection: &mut Connection) -> Status {
    match connection.call(RequestBody::Status).unwrap() {
        ReplyBody::Status(status) => *status,
        other => panic!("asked how it is, the daemon answers {other:?}"),
    }
}

/// Asks until the daemon is as it should be again.
#[track_caller]
fn wait_until(connection: &mut Connection, what: &str, is_so: impl Fn(&Status) -> bool) {
    let give_up = std::time::Instant::now() + support::PATIENCE;
    loop {
        let status = status(connection);
        if is_so(&status) {
            return;
        }
        assert!(std::time::Instant::now() < give_up, "it never came about that {what}: {status:?}");
    }
}

/// Whether every pool has all its workers, ready.
fn is_at_strength(status: &Status) -> bool {
    status.pools.iter().all(|pool| pool.ready == pool.workers)
}
