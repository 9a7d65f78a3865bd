//! The examples, run against a daemon of the test's own where they need one: each prints what its
//! documentation promises.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use support::{Daemon, parts};

/// The example of that name, which `cargo test` builds beside the tests.
fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is not built: cargo build --examples", path.display());
    path
}

/// Runs the example of that name to its end.
fn run(daemon: &Daemon, name: &str) -> (i32, String, String) {
    parts(&Command::new(example(name)).env("POOLD_SOCKET", &daemon.socket).output().unwrap())
}

#[test]
fn primes_prints_what_the_program_of_python_does() {
    let daemon = Daemon::start("");
    let expected = "112272535095293 is prime: true\n\
                    112582705942171 is prime: true\n\
                    112272535095293 is prime: true\n\
                    115280095190773 is prime: true\n\
                    115797848077099 is prime: true\n\
                    1099726899285419 is prime: false\n";
    assert_eq!(run(&daemon, "primes"), (0, expected.to_owned(), String::new()));
}

#[test]
fn futures_shows_every_way_to_wait() {
    let daemon = Daemon::start("[pool.cpu]\nworkers = 2\n");
    let (status, mut lines, stderr) = run(&daemon, "futures");
    assert_eq!((status, stderr.as_str()), (0, ""));
    // The callback has a thread of its own, and so no place among the other lines.
    let callback = "sleep is done: true\n";
    assert!(lines.contains(callback), "{lines}");
    lines = lines.replacen(callback, "", 1);
    let expected = "done after 1 ms: false\n\
                    primes among 7, 8 and 9: 1\n\
                    cancelled: true\n\
                    timed out: true\n\
                    failed: there is no such month\n\
                    2^31 - 1 is prime: true\n";
    assert_eq!(lines, expected);
}

/// What `isolation` prints. It runs once: it is busy for seconds.
fn isolation() -> &'static str {
    static PRINTED: OnceLock<String> = OnceLock::new();
    PRINTED.get_or_init(|| {
        let output = Command::new(example("isolation")).output().unwrap();
        let (status, stdout, stderr) = parts(&output);
        assert_eq!(status, 0, "{stdout}{stderr}");
        stdout
    })
}

/// The cells of a table's row, but for its name.
fn cells<'a>(section: &'a str, name: &str) -> Vec<&'a str> {
    let row = section.lines().find_map(|line| line.strip_prefix("  ")?.strip_prefix(name));
    let row = row.unwrap_or_else(|| panic!("no row `{name}`:\n{section}"));
    row.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

fn number(cell: &str) -> f64 {
    cell.parse().unwrap_or_else(|_| panic!("`{cell}` is no number"))
}

#[test]
fn isolation_shows_each_of_its_claims() {
    let sections: Vec<_> = isolation().split("== ").skip(1).collect();
    let [crash, memory, weight, communication, race, deadlock] = sections[..] else { panic!("{sections:?}") };

    let aborted = "signal 6 (SIGABRT)";
    assert_eq!(cells(crash, "pool of processes"), [aborted, "7", "0", "ok"]);
    assert_eq!(cells(crash, "pool of threads"), [aborted, "0", "7", "ok"]);

    assert_eq!(cells(memory, "pool of processes"), ["8", "1 1 1 1 1 1 1 1", "0"]);
    assert_eq!(cells(memory, "pool of threads"), ["1", "1 2 3 4 5 6 7 8", "0"]);

    for name in ["process", "thread"] {
        assert!(cells(weight, name).into_iter().all(|cell| number(cell) > 0.0), "{weight}");
    }

    for way in ["copied into calls", "copied into a socket", "passed as a memfd, and", "passed as a memfd "] {
        assert_eq!(cells(communication, way).last(), Some(&"whole"), "{communication}");
    }

    let counts = |name| cells(race, name).into_iter().map(number).collect::<Vec<_>>();
    let [updates, kept, lost] = counts("load, then store, as it comes")[..] else { panic!("{race}") };
    assert_eq!((updates, kept + lost), (40_000_000.0, 40_000_000.0));
    assert_eq!(counts("load, then store, at one time"), [2_000.0, 1_000.0, 1_000.0]);
    assert_eq!(counts("one indivisible addition"), [40_000_000.0, 40_000_000.0, 0.0]);
    assert_eq!(counts("one owner, told by messages"), [400_000.0, 400_000.0, 0.0]);

    assert_eq!(cells(deadlock, "same order, in this program")[0], "done");
    assert_eq!(cells(deadlock, "opposite order, in this program")[0], "waiting");
    for pool in ["processes", "threads"] {
        let row = cells(deadlock, &format!("opposite order, in a pool of {pool}"));
        assert_eq!(row, ["8 of 8 timed out", "the next call: ok"]);
    }
    assert!(deadlock.contains(" occupies pool `processes` and would wait"), "{deadlock}");
}

/// The article quotes a run of the program: with other figures, but with the same rows.
#[test]
fn isolation_has_the_tables_of_its_article() {
    fn mask(word: &str) -> &str {
        if word.contains(|character: char| character.is_ascii_digit()) { "#" } else { word }
    }
    fn tables(text: &str) -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with("  "));
        lines.map(|line| line.split_whitespace().map(mask).collect::<Vec<_>>().join(" ")).collect()
    }
    let article = std::fs::read_to_string("docs/PROCESSES_AND_THREADS.md").unwrap();
    let shown = tables(isolation());
    assert!(shown.len() > 20, "{shown:?}");
    assert_eq!(tables(&article), shown);
}
