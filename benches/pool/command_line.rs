//! `poolctl submit` as a whole process, against a bare program that connects and makes one round trip through the
//! relay.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::floor::RelayServer;
use crate::pool::Daemon;
use crate::report::{Report, Table};
use crate::role::Role;
use crate::statistics::{Bound, Statistic};
use crate::{Extent, Failure};

const BARE: &str = "bare program, relay";
const POOLCTL: &str = "poolctl submit";

pub fn measure(extent: Extent, report: &mut Report) -> Result<(), Failure> {
    let (turns, runs) = extent.pick((20, 20), (5, 10));
    let relay = RelayServer::start()?;
    let daemon = Daemon::start(1)?;
    let mut bare = Role::Call.command();
    bare.arg(relay.socket());
    let mut poolctl = Command::new(env!("CARGO_BIN_EXE_poolctl"));
    poolctl.args(["submit", "is_prime", "7"]).env("POOLD_SOCKET", daemon.socket());

    let mut table = Table::new("`poolctl submit is_prime 7`, the whole process", "µs");
    for _ in 0..turns {
        table.add(BARE, micros(&mut bare, runs)?);
        table.add(POOLCTL, micros(&mut poolctl, runs)?);
    }
    table.compare(POOLCTL, BARE, Statistic::Median, Bound::AtMost(1.5));
    report.add(table);
    Ok(())
}

/// Microseconds from each start of a program to its end.
fn micros(command: &mut Command, runs: usize) -> Result<Vec<f64>, Failure> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut micros = Vec::with_capacity(runs);
    for _ in 0..runs {
        let before = Instant::now();
        let status = command.status()?;
        micros.push(before.elapsed().as_secs_f64() * 1e6);
        if !status.success() {
            return Err(format!("{command:?} ended with {status}").into());
        }
    }
    Ok(micros)
}
