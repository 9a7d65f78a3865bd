//! The fuzz targets, in the ordinary suite: what was found once, what is said by those who mean well, and
//! ten thousand inputs made of both by lot, always the same.
//!
//! `fuzz/README.md` tells how to look for more.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fastrand::Rng;

#[path = "../fuzz/src/lib.rs"]
mod hostile;

/// Inputs made by lot for each target.
const INPUTS_BY_LOT: u64 = 10_000;

/// Bytes in the largest of those that are made of nothing.
const BYTES_BY_LOT_MAX: usize = 400;

/// A test for each of the targets.
macro_rules! targets_withstand {
    ($($test:ident: $target:literal)*) => {
        /// The targets that have a test.
        const TRIED: &[&str] = &[$($target),*];
        $(
            #[test]
            fn $test() {
                withstands($target);
            }
        )*
    };
}

targets_withstand! {
    arguments_withstand_hostile_input: "arguments"
    command_withstands_hostile_input: "command"
    config_withstands_hostile_input: "config"
    frames_withstand_hostile_input: "frames"
    from_worker_withstands_hostile_input: "from_worker"
    guard_record_withstands_hostile_input: "guard_record"
    handshake_withstands_hostile_input: "handshake"
    names_withstand_hostile_input: "names"
    page_withstands_hostile_input: "page"
    reply_withstands_hostile_input: "reply"
    request_withstands_hostile_input: "request"
    settings_withstand_hostile_input: "settings"
    supervisor_withstands_hostile_input: "supervisor"
    to_worker_withstands_hostile_input: "to_worker"
}

#[test]
fn targets_are_all_tried() {
    let names: Vec<&str> = hostile::TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, TRIED);
    let programs: Vec<String> = names.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(names_in(&repository("fuzz/targets")), programs);
    for directory in ["fuzz/corpus", "fuzz/regressions"] {
        let unknown = names_in(&repository(directory)).into_iter().find(|name| !names.contains(&&**name));
        assert_eq!(unknown, None, "{directory} has what is no target's");
    }
}

fn withstands(name: &str) {
    let (_, target) = hostile::TARGETS.iter().find(|(other, _)| *other == name).expect("it is a target");
    let corpus = files_in(&repository("fuzz/corpus").join(name));
    assert!(!corpus.is_empty(), "fuzz/corpus/{name} is empty: see fuzz/README.md");
    let regressions = files_in(&repository("fuzz/regressions").join(name));
    for (path, input) in corpus.iter().chain(&regressions) {
        must_withstand(*target, input, &path.display().to_string());
    }
    let mut rng = Rng::with_seed(1);
    for number in 0..INPUTS_BY_LOT {
        let (_, kept) = &corpus[rng.usize(0..corpus.len())];
        let input = by_lot(&mut rng, kept);
        must_withstand(*target, &input, &format!("input {number} by lot of {name}"));
    }
}

fn must_withstand(target: hostile::Target, input: &[u8], name: &str) {
    let outcome = catch_unwind(AssertUnwindSafe(|| target(input)));
    assert!(outcome.is_ok(), "{name} gets the better of it: {input:?}");
}

/// `kept` with a few changes, or something else altogether.
fn by_lot(rng: &mut Rng, kept: &[u8]) -> Vec<u8> {
    if rng.u32(0..4) == 0 {
        let bytes = rng.usize(0..BYTES_BY_LOT_MAX);
        return std::iter::repeat_with(|| rng.u8(..)).take(bytes).collect();
    }
    let mut input = kept.to_vec();
    for _ in 0..rng.u32(1..5) {
        let at = rng.usize(0..=input.len());
        match rng.u32(0..4) {
            0 => input.insert(at, rng.u8(..)),
            1 => input.truncate(at),
            2 => input.extend_from_within(at..),
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << rng.u32(0..8);
                }
            }
        }
    }
    input
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What is in a directory, in the order of the names; nothing if there is none.
fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn files_in(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = names_in(directory).into_iter().map(|name| directory.join(name));
    paths.map(|path| (path.clone(), fs::read(&path).expect("it can be read"))).collect()
}
