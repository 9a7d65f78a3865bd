//! Keeps the layers apart, by reading the sources: who may import whom, that the supervisor is pure,
//! that `unsafe` and `bincode` stay where they belong.
//!
//! It reads words, not types: what it forbids cannot be written without naming it. The rules are tried
//! on snippets first, so that one that finds nothing is not taken for one that holds.

use std::fs;
use std::path::{Path, PathBuf};

/// The parts of the library, in rows: a part imports only from rows above its own. The first row
/// stands by itself because names are checked and kept by it.
const ROWS: &[&[&str]] = &[
    &["limits", "inline"],
    &["id", "time", "numbers", "descriptor", "memory"],
    &["task", "function"],
    &["message"],
    &["wire", "supervisor", "os"],
    &["line", "shared"],
    &["daemon", "worker", "client"],
    &["program"],
];

/// All that the supervisor may name of the standard library and of other crates: no clock, no outside
/// world, no threads, no locks, no unordered collection.
const PURE: &[&str] = &[
    "fastrand::Rng",
    "log::Level",
    "slab::Slab",
    "std::cmp",
    "std::collections::BTreeMap",
    "std::collections::BTreeSet",
    "std::collections::BinaryHeap",
    "std::collections::VecDeque",
    "std::collections::btree_map",
    "std::fmt",
    "std::iter",
    "std::mem",
    "std::num::NonZeroU32",
    "std::ops",
    "std::time::Duration",
    "strsim",
];

/// What it may not name, though no path from outside leads there: what prints, what is kept by thread,
/// and numbers that no seed draws.
const IMPURE: &[&str] =
    &["Rng::new", "Rng::default", "dbg", "eprint", "eprintln", "print", "println", "thread_local"];

#[test]
fn files_import_only_from_rows_above_their_own() {
    let found = search(&["src"], |file, code| match part_of(file) {
        Some(part) => bad_imports(part, depth_of(file), code),
        None => Vec::new(),
    });
    assert!(found.is_empty(), "imports against the layers:\n{}", found.join("\n"));
}

#[test]
fn supervisor_is_pure() {
    let crates = crates();
    let found = search(&["src/supervisor"], |_, code| impurities(code, &crates));
    assert!(found.is_empty(), "the supervisor reaches outside:\n{}", found.join("\n"));
}

#[test]
fn unsafe_stays_in_os() {
    let found = search(&["src", "bin"], |file, code| match part_of(file) {
        Some("os") => Vec::new(),
        Some(_) | None => words(code).into_iter().filter(|word| word == "unsafe").collect(),
    });
    assert!(found.is_empty(), "unsafe outside of src/os:\n{}", found.join("\n"));
}

#[test]
fn bincode_stays_in_wire() {
    let found = search(&["src", "bin"], |file, code| match part_of(file) {
        Some("wire") => Vec::new(),
        Some(_) | None => paths(code).into_iter().filter(|path| path.starts_with("bincode::")).collect(),
    });
    assert!(found.is_empty(), "bincode outside of src/wire:\n{}", found.join("\n"));
}

#[test]
fn every_part_of_the_library_has_its_row() {
    let library = fs::read_to_string(root().join("src/lib.rs")).expect("the library has a root");
    let words = words(&strip(&library));
    let declared = words.windows(2).filter(|pair| pair[0] == "mod").map(|pair| pair[1].clone());
    let unknown: Vec<String> = declared.filter(|part| row_of(part).is_none()).collect();
    assert!(unknown.is_empty(), "parts without a row in tests/layers.rs: {unknown:?}");
}

#[test]
fn import_of_a_lower_or_equal_row_is_found() {
    for (code, bad) in [
        ("use crate::daemon::Config;", "crate::daemon::Config"),
        ("use crate::{id::TaskId, wire::{Frame, Inbox}};", "crate::wire::Frame crate::wire::Inbox"),
        ("fn f() -> crate::os::Pidfd { todo() }", "crate::os::Pidfd"),
        ("use super::super::worker;", "super::super::worker"),
        ("use crate::Supervisor;", "crate::Supervisor"),
        ("pub use poold::client::Executor;", "poold::client::Executor"),
    ] {
        assert_eq!(bad_imports("supervisor", 2, &strip(code)).join(" "), bad, "{code}");
    }
    assert_eq!(bad_imports("task", 1, "use super::message;"), ["super::message"]);
}

#[test]
fn import_of_a_higher_row_is_not_found() {
    let code = "use crate::{id::{SlotId, TaskId}, limits, supervisor::Event}; use super::action; use std::fmt; \
                // use crate::daemon;\n /* crate::wire */ const TEXT: &str = \"crate::os\"; mod tests { use super::*; }";
    assert_eq!(bad_imports("supervisor", 2, &strip(code)), [""; 0]);
}

#[test]
fn impurity_is_found_however_it_is_written() {
    let crates = crates();
    for (code, found) in [
        ("use std::collections::{BTreeMap, HashMap};", "std::collections::HashMap"),
        ("use std::collections; fn f(of: collections::HashSet<u8>)", "std::collections"),
        ("let now = std::time::Instant::now();", "std::time::Instant::now"),
        ("use std::{fmt, sync::{Arc, Mutex}};", "std::sync::Arc std::sync::Mutex"),
        ("let jitter = fastrand::u64(..);", "fastrand::u64"),
        ("let random = fastrand::Rng::new();", "fastrand::Rng::new"),
        ("rustix::process::getpid()", "rustix::process::getpid"),
        ("println!(\"{task}\");", "println"),
        ("log::warn!(\"{task}\");", "log::warn"),
    ] {
        assert_eq!(impurities(&strip(code), &crates).join(" "), found, "{code}");
    }
    let pure = "use std::time::Duration; let random = fastrand::Rng::with_seed(seed); // Instant, HashMap\n \
                let level = log::Level::Warn; use super::{Action, timers::Timer};";
    assert_eq!(impurities(&strip(pure), &crates), [""; 0]);
}

#[test]
fn comments_and_texts_are_no_code() {
    let code = "a /* b /* c */ d */ e // f\n \"g \\\" h\" i r#\"j \" k\"# 'l' '\\'' 'm m \"n\" // \"o\"";
    assert_eq!(words(&strip(code)), ["a", "e", "i", "m", "m"]);
}

/// Paths in `code` that a file of `part`, so many modules deep, may not name.
fn bad_imports(part: &str, depth: usize, code: &str) -> Vec<String> {
    let is_bad = |path: &String| {
        let mut names = path.split("::").peekable();
        let mut supers = 0;
        while names.next_if_eq(&"super").is_some() {
            supers += 1;
        }
        let from_root = match supers {
            0 => names.next_if(|name| *name == "crate" || *name == "poold").is_some(),
            _ => supers >= depth && names.peek().is_some_and(|name| row_of(name).is_some()),
        };
        let Some(imported) = names.next().filter(|_| from_root) else { return false };
        imported != part && row_of(imported).is_none_or(|row| Some(row) >= row_of(part))
    };
    paths(code).into_iter().filter(is_bad).collect()
}

/// Paths in `code` that the supervisor may not name; `crates` are those that the library depends on.
fn impurities(code: &str, crates: &[String]) -> Vec<String> {
    let is_impure = |path: &String| {
        let is_at_or_below = |name: &&str| path == name || path.starts_with(&format!("{name}::"));
        let is_called_so = |name: &&str| path == name || path.ends_with(&format!("::{name}"));
        let root = path.split("::").next().unwrap_or_default();
        let is_from_outside = path != root && crates.iter().any(|name| name == root);
        (is_from_outside && !PURE.iter().any(is_at_or_below)) || IMPURE.iter().any(is_called_so)
    };
    paths(code).into_iter().filter(is_impure).collect()
}

/// The crates that the library can name: the standard ones and those that the manifest asks for.
fn crates() -> Vec<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the package has a manifest");
    let dependencies = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    let dependencies = dependencies.take_while(|line| !line.starts_with('['));
    let names =
        dependencies.filter_map(|line| line.split_once(" = ")).map(|(name, _)| name.replace('-', "_"));
    let crates: Vec<String> = ["std", "core", "alloc"].map(str::to_owned).into_iter().chain(names).collect();
    assert!(crates.iter().any(|name| name == "fastrand"), "dependencies are listed otherwise: {crates:?}");
    crates
}

/// The part of the library that a file belongs to; none for its root and for binaries.
fn part_of(file: &Path) -> Option<&str> {
    let mut names = file.iter().map(|name| name.to_str().expect("sources have plain names"));
    let part = names.next().filter(|first| *first == "src").and(names.next())?;
    Some(part.trim_end_matches(".rs")).filter(|part| *part != "lib")
}

/// How many modules deep a file's code is below the root of the library.
fn depth_of(file: &Path) -> usize {
    let is_root_of_its_folder = file.file_stem().is_some_and(|stem| stem == "mod");
    file.iter().count() - 1 - usize::from(is_root_of_its_folder)
}

fn row_of(part: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&part))
}

/// Every path named in `code`: `use` trees are taken apart, and what stands alone is a path of one name.
fn paths(code: &str) -> Vec<String> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        at = if is_name(&tokens[at]) { path(&tokens, at, "", &mut found) } else { at + 1 };
    }
    found
}

/// Reads the path that begins at `at`, after `prefix`; returns where it ends.
fn path(tokens: &[String], mut at: usize, prefix: &str, found: &mut Vec<String>) -> usize {
    let mut whole = format!("{prefix}{}", tokens[at]);
    at += 1;
    while tokens.get(at).is_some_and(|token| token == "::") {
        match tokens.get(at + 1) {
            Some(name) if is_name(name) || name == "*" => {
                whole = format!("{whole}::{name}");
                at += 2;
            }
            Some(brace) if brace == "{" => {
                at += 2;
                while at < tokens.len() && tokens[at] != "}" {
                    let is_member = is_name(&tokens[at]);
                    at = if is_member { path(tokens, at, &format!("{whole}::"), found) } else { at + 1 };
                }
                return at + 1;
            }
            Some(_) | None => break,
        }
    }
    found.push(whole);
    at
}

/// The names, `::`, and single other characters of `code`.
fn tokens(code: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            ':' if rest.starts_with("::") => 2,
            _ if is_in_name(first) => rest.find(|next| !is_in_name(next)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        if !token.trim().is_empty() {
            tokens.push(token.to_owned());
        }
        rest = after;
    }
    tokens
}

fn words(code: &str) -> Vec<String> {
    tokens(code).into_iter().filter(|token| is_name(token)).collect()
}

fn is_name(token: &str) -> bool {
    token.starts_with(is_in_name)
}

fn is_in_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// `source` without its comments, texts and characters.
fn strip(source: &str) -> String {
    let mut code = String::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let after_name = code.ends_with(is_in_name);
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment_length(rest)
        } else if first == '"' {
            text_length(rest)
        } else if first == 'r' && !after_name {
            raw_text_length(rest)
        } else if first == '\'' {
            character_length(rest)
        } else {
            0
        };
        if skipped > 0 {
            code.push(' ');
            rest = &rest[skipped..];
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    code
}

fn comment_length(source: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < source.len() {
        let step = match &source.as_bytes()[at..] {
            [b'/', b'*', ..] => {
                depth += 1;
                2
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                2
            }
            _ => 1,
        };
        at += step;
        if depth == 0 {
            break;
        }
    }
    at
}

fn text_length(source: &str) -> usize {
    let mut is_escaped = false;
    for (at, character) in source.char_indices().skip(1) {
        match character {
            '"' if !is_escaped => return at + 1,
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    source.len()
}

/// The length of a raw text, or 0 if none begins here.
fn raw_text_length(source: &str) -> usize {
    let hashes = source[1..].len() - source[1..].trim_start_matches('#').len();
    if !source[1 + hashes..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let start = hashes + 2;
    source[start..].find(&end).map_or(source.len(), |at| start + at + end.len())
}

/// The length of a character, or 0 if it is a lifetime that begins here.
fn character_length(source: &str) -> usize {
    let mut characters = source.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => source[3..].find('\'').map_or(0, |at| at + 4),
        Some(_) => characters.next().filter(|(_, next)| *next == '\'').map_or(0, |(at, _)| at + 1),
        None => 0,
    }
}

/// What `rule` finds in the code of each file below `folders`, with the file's name.
fn search(folders: &[&str], rule: impl Fn(&Path, &str) -> Vec<String>) -> Vec<String> {
    let mut files = Vec::new();
    for folder in folders {
        collect(&root().join(folder), &mut files);
    }
    assert!(!files.is_empty(), "no sources below {folders:?}");
    let mut found = Vec::new();
    for file in files {
        let source = fs::read_to_string(&file).expect("sources can be read");
        let name = file.strip_prefix(root()).expect("sources are below the root");
        found.extend(rule(name, &strip(&source)).into_iter().map(|bad| format!("{}: {bad}", name.display())));
    }
    found
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("source folders can be read") {
        let path = entry.expect("source folders can be read").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
