//! The units as systemd reads them: no key it does not know, no program that is missing, little exposure.
//!
//! Where there is no `systemd-analyze`, the tests that need it say so and pass. What a real systemd makes
//! of the units is in `tests/systemd/`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use poold::limits;
use tempfile::TempDir;

const SYSTEMD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd");
const SERVICE: &str = include_str!("../systemd/poold.service");
const USER_SERVICE: &str = include_str!("../systemd/user/poold.service");

/// Where the units look for the programs.
const INSTALLED: &str = "/usr/bin/";

/// `poold.service` and `poold.socket` of `directory`, copied to where the returned path says, with the
/// programs of this build in place of installed ones.
fn units_of_this_build(directory: &str) -> TempDir {
    let built = Path::new(env!("CARGO_BIN_EXE_poold")).parent().unwrap().to_str().unwrap();
    let copies = TempDir::new().unwrap();
    for unit in ["poold.service", "poold.socket"] {
        let text = std::fs::read_to_string(PathBuf::from(directory).join(unit)).unwrap();
        std::fs::write(copies.path().join(unit), text.replace(INSTALLED, &format!("{built}/"))).unwrap();
    }
    copies
}

/// What `systemd-analyze` with `args` complains of; nothing if it is content or not there.
fn complaints(args: &[&str], units: &TempDir, unit_names: &[&str]) -> Option<String> {
    let mut command = Command::new("systemd-analyze");
    command.args(args).args(unit_names.iter().map(|name| units.path().join(name)));
    // What `--user` needs to run outside of a session.
    command.env("XDG_RUNTIME_DIR", units.path()).env("SYSTEMD_COLORS", "0");
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("skipped: systemd-analyze cannot be run: {error}");
            return None;
        }
    };
    let text = [output.stdout, output.stderr].concat();
    (!output.status.success()).then(|| String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn system_units_pass_verification() {
    let units = units_of_this_build(SYSTEMD);
    let args = ["verify", "--recursive-errors=no"];
    assert_eq!(complaints(&args, &units, &["poold.service", "poold.socket"]), None);
}

#[test]
fn user_units_pass_verification() {
    let units = units_of_this_build(&format!("{SYSTEMD}/user"));
    let args = ["verify", "--user", "--recursive-errors=no"];
    assert_eq!(complaints(&args, &units, &["poold.service", "poold.socket"]), None);
}

#[test]
fn system_service_has_an_exposure_of_at_most_2() {
    let units = units_of_this_build(SYSTEMD);
    // The threshold counts tenths.
    let args = ["security", "--offline=true", "--threshold=20", "--no-pager"];
    assert_eq!(complaints(&args, &units, &["poold.service"]), None);
}

/// The values of a key of a unit, in its order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

#[test]
fn stop_timeout_of_the_units_is_longer_than_the_drain() {
    let needed = limits::DRAIN_TIMEOUT + limits::GRACE;
    for unit in [SERVICE, USER_SERVICE] {
        let [timeout] = values(unit, "TimeoutStopSec")[..] else { panic!("not one TimeoutStopSec") };
        assert!(humantime::parse_duration(timeout).unwrap() > needed, "{timeout} is not above {needed:?}");
    }
}

#[test]
fn start_commands_of_the_units_are_accepted_by_this_build() {
    for unit in [SERVICE, USER_SERVICE] {
        let [start] = values(unit, "ExecStart")[..] else { panic!("not one ExecStart") };
        let start = start.replace("/etc/poold/", &format!("{SYSTEMD}/"));
        let args = start.strip_prefix("/usr/bin/poold").unwrap().split_whitespace();
        let output =
            Command::new(env!("CARGO_BIN_EXE_poold")).args(args).arg("--check-config").output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}
