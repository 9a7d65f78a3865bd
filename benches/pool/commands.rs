//! A thousand commands that do nothing, two at a time: `poolctl map`, `xargs` and GNU parallel, from the start of
//! each to its end.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::pool::Daemon;
use crate::report::{Report, Table};
use crate::statistics::{Bound, Statistic};
use crate::{Extent, Failure};

/// A function that does what `xargs` and its like are told to do with each line.
const CONFIG: &str = "[function.nothing]\nexec = ['true', '{0}']\n";

const POOLCTL: &str = "poolctl map, two workers";
const XARGS: &str = "xargs -P2 -n1 true";
const PARALLEL: &str = "parallel -j2 true";

pub fn measure(extent: Extent, report: &mut Report) -> Result<(), Failure> {
    let (turns, lines) = extent.pick((8, 1000), (2, 200));
    let daemon = Daemon::start_with(2, CONFIG)?;
    let directory = tempfile::tempdir()?;
    let input = directory.path().join("lines");
    std::fs::write(&input, (1..=lines).map(|number| format!("{number}\n")).collect::<String>())?;

    let mut poolctl = Command::new(env!("CARGO_BIN_EXE_poolctl"));
    poolctl.args(["map", "nothing"]).env("POOLD_SOCKET", daemon.socket());
    let mut contenders = vec![(POOLCTL, poolctl)];
    for line in [XARGS, PARALLEL] {
        let mut words = line.split(' ');
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        contenders.push((line, command));
    }
    let mut table = Table::new(format!("{lines} commands that do nothing, two at a time"), "ms");
    for _ in 0..turns {
        for (who, command) in &mut contenders {
            if let Some(millis) = millis(command, &input)? {
                table.add(who, vec![millis]);
            }
        }
    }
    table.compare(POOLCTL, XARGS, Statistic::Median, Bound::AtMost(1.0));
    table.compare(PARALLEL, POOLCTL, Statistic::Median, Bound::AtLeast(3.0));
    report.add(table);
    Ok(())
}

/// Milliseconds that a program takes over this input; nothing where it is not installed.
fn millis(command: &mut Command, input: &Path) -> Result<Option<f64>, Failure> {
    command.stdin(File::open(input)?).stdout(Stdio::null());
    let before = Instant::now();
    match command.status() {
        Ok(status) if status.success() => Ok(Some(before.elapsed().as_secs_f64() * 1e3)),
        Ok(status) => Err(format!("{command:?} ended with {status}").into()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("{:?} is not installed: it is left out", command.get_program());
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
