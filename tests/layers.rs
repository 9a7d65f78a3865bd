//! The layers hold: who may import whom, and what the supervisor must never touch.
//!
//! It reads the sources as text, comments apart. What it knows is the table in `src/lib.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

/// The layers from the lowest up: a module imports only from rows above its own.
const ROWS: [&[&str]; 8] = [
    &["limits"],
    &["id", "time"],
    &["task", "function"],
    &["message"],
    &["wire", "supervisor", "os"],
    &["line"],
    &["daemon", "worker", "client"],
    &["program"],
];

/// What the supervisor takes from the standard library.
const SUPERVISOR_STD: [&str; 9] = [
    "std::cmp",
    "std::collections::BTree",
    "std::collections::VecDeque",
    "std::collections::{BTree",
    "std::fmt",
    "std::iter",
    "std::mem",
    "std::ops",
    "std::time::Duration",
];

/// What it takes from other crates; random numbers are drawn from a seed alone.
const SUPERVISOR_CRATES: [&str; 4] = ["fastrand::Rng", "log::Level", "slab::Slab", "strsim::"];

/// A line of code, and where it is.
struct Line {
    /// The module of `src/` that it belongs to.
    module: String,
    place: String,
    code: String,
}

/// Every line of `src/` that is no comment.
fn lines() -> Vec<Line> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut lines = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
            let module = name.split('/').next().unwrap().trim_end_matches(".rs");
            for (index, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
                if !line.trim_start().starts_with("//") {
                    lines.push(Line {
                        module: module.to_owned(),
                        place: format!("src/{name}:{}", index + 1),
                        code: line.to_owned(),
                    });
                }
            }
        }
    }
    assert!(lines.len() > 1000, "the sources are not where they were");
    lines
}

/// What follows each `prefix` that starts a path in `code`.
fn paths<'a>(code: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    code.match_indices(prefix).filter_map(move |(start, _)| {
        let is_start =
            !code[..start].ends_with(|before: char| before.is_alphanumeric() || "_:".contains(before));
        is_start.then(|| &code[start..])
    })
}

fn row(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

#[test]
fn modules_import_only_from_the_rows_above() {
    for Line { module, place, code } in lines() {
        if module == "lib" {
            continue;
        }
        let own =
            row(&module).unwrap_or_else(|| panic!("{module} has no row; give it one here and in lib.rs"));
        for path in paths(&code, "crate::") {
            let imported = path["crate::".len()..].split(|end: char| !(end.is_alphanumeric() || end == '_'));
            let imported = imported.into_iter().next().unwrap();
            assert!(
                imported == module || row(imported).is_some_and(|row| row < own),
                "{place}: {module} imports from `{imported}`, which is not above it: {code}"
            );
        }
    }
}

#[test]
fn supervisor_is_pure() {
    let manifest = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
    let (_, dependencies) = manifest.split_once("\n[dependencies]\n").unwrap();
    let dependencies = dependencies.split("\n[").next().unwrap().lines();
    let crates: Vec<String> = dependencies
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| format!("{}::", name.replace('-', "_")))
        .collect();
    assert!(crates.contains(&"fastrand::".to_owned()), "{crates:?}");

    for Line { module, place, code } in lines() {
        if module != "supervisor" {
            continue;
        }
        let allowed = |path: &str, list: &[&str]| list.iter().any(|allowed| path.starts_with(allowed));
        for path in paths(&code, "std::") {
            assert!(allowed(path, &SUPERVISOR_STD), "{place}: the supervisor must not know of this: {code}");
        }
        for path in crates.iter().flat_map(|name| paths(&code, name)) {
            assert!(
                allowed(path, &SUPERVISOR_CRATES),
                "{place}: the supervisor must not know of this: {code}"
            );
        }
        // In the prelude or behind a grouped import. `Rng::new` draws its seed from the environment.
        for word in ["HashMap", "HashSet", "println!", "thread_local!", "Rng::new()", "extern "] {
            assert!(!code.contains(word), "{place}: the supervisor must not use `{word}`: {code}");
        }
    }
}

#[test]
fn unsafe_code_is_in_os_and_bincode_in_wire() {
    for Line { module, place, code } in lines() {
        for (word, home) in [("unsafe ", "os"), ("bincode::", "wire")] {
            assert!(
                module == home || paths(&code, word).next().is_none(),
                "{place}: it belongs in {home}: {code}"
            );
        }
    }
}
