//! Writes the seeds: what a well-meant peer or operator says, as input for each target.
//!
//! They come from the golden bytes of the wire and from the configuration that is shipped, so that they
//! follow both: run it again when either changes. What it wrote before goes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use poold_fuzz::TARGETS;
use poold_fuzz::config::PIECES;
use poold_fuzz::page;

/// How the names of seeds start, and those of no other file of a corpus.
const PREFIX: &str = "seed.";

/// Scripts for targets that take one, by lot but always the same.
const SCRIPTS: u64 = 4;

/// Bytes in one of those.
const SCRIPT_BYTES: usize = 600;

/// The script of `frames` for: a whole frame; a cut.
const WHOLE_FRAME: u8 = 1;
const CUT: u8 = 5;

fn main() -> io::Result<()> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = fuzz.join("corpus");
    for (target, _) in TARGETS {
        let directory = corpus.join(target);
        fs::create_dir_all(&directory)?;
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                fs::remove_file(entry.path())?;
            }
        }
    }
    let seed = |target: &str, name: &str, bytes: &[u8]| {
        fs::write(corpus.join(target).join(format!("{PREFIX}{name}")), bytes)
    };
    for Vector { name, fields } in vectors(&fuzz.join("../tests/fixtures/wire-v1.txt"))? {
        let Some((target, received)) = target_of(&name) else {
            seed("handshake", &name, &fields.concat())?;
            continue;
        };
        let (head, payload) = (&fields[1], fields.get(2).cloned().unwrap_or_default());
        seed(target, &name, &[&[payload.len() as u8], head.as_slice(), &payload].concat())?;
        let script =
            [&[received, WHOLE_FRAME, head.len() as u8, payload.len() as u8], head.as_slice(), &payload];
        seed("frames", &name, &[script.concat(), vec![CUT, 1]].concat())?;
        if target == "from_worker" {
            let script = [&[page::FRAME, head.len() as u8, payload.len() as u8], head.as_slice(), &payload];
            let before = [page::OFFER, page::OFFER, page::BEGIN, 1, page::TAKE_BACK, 2, page::BEGIN, 2];
            seed("page", &name, &[before.to_vec(), script.concat(), vec![page::LOOK]].concat())?;
        }
    }
    for (name, text) in configurations(&fuzz.join("../systemd/poold.toml"))? {
        seed("config", &name, text.as_bytes())?;
        let pieces = pieces(&text);
        seed("settings", &name, &[&[pieces.len().min(255) as u8], pieces.as_slice(), &pieces].concat())?;
    }
    for (name, function, encoding, text) in ARGUMENTS {
        seed("arguments", name, &[&[function, encoding], text.as_bytes()].concat())?;
    }
    for (index, word) in WORDS.iter().enumerate() {
        seed("command", &format!("word-{index}"), word.as_bytes())?;
    }
    for (index, name) in ["5f3a91c2-17", "is_prime", "cpu", "a name"].iter().enumerate() {
        seed("names", &format!("name-{index}"), name.as_bytes())?;
    }
    for tag in 1..=4 {
        seed("guard_record", &format!("record-{tag}"), &[tag, 4, 3, 2, 1, 8, 7, 6, 5])?;
    }
    for number in 0..SCRIPTS {
        seed("supervisor", &format!("script-{number}"), &script(number))?;
        seed("page", &format!("script-{number}"), &script(number))?;
    }
    Ok(())
}

/// Of functions by their place in the order of their names, in encodings by theirs.
const ARGUMENTS: [(&str, u8, u8, &str); 8] = [
    ("any", 0, 1, r#"[{"a": [1, null, "x"]}]"#),
    ("either", 4, 0, "[1, [\"x\"]]\0"),
    ("i128", 7, 0, "-170141183460469231731687303715884105728\0"),
    ("map", 9, 0, "{\"a\": [1, 2]}\0"),
    ("point", 11, 1, r#"[{"x": 1, "y": "é"}]"#),
    ("shape", 12, 1, r#"[{"Line": {"from": {"x": 1}, "to": {"x": 2}}}]"#),
    ("tuple", 14, 0, "7\0text\0"),
    ("u128", 15, 2, "\u{1}"),
];

/// Words of a command line.
const WORDS: [&str; 6] = ["{0}", "{*}", "--size={0}x{12}", "{{0}}", "x{*}", "{1024}"];

/// A line of the fixture.
struct Vector {
    name: String,
    fields: Vec<Vec<u8>>,
}

fn vectors(fixture: &Path) -> io::Result<Vec<Vector>> {
    let text = fs::read_to_string(fixture)?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let vector = |line: &str| {
        let (name, fields) = line.split_once(": ")?;
        Some(Vector { name: name.to_owned(), fields: fields.split_whitespace().map(unhex).collect() })
    };
    Ok(lines.filter_map(vector).collect())
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |character: u8| char::from(character).to_digit(16).expect("the fixture is hexadecimal") as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// The target for a message of the fixture, and what `frames` calls the kind.
fn target_of(name: &str) -> Option<(&'static str, u8)> {
    match name.split('.').next()? {
        "request" => Some(("request", 0)),
        "reply" => Some(("reply", 1)),
        "to_worker" => Some(("to_worker", 2)),
        "from_worker" => Some(("from_worker", 3)),
        _ => None,
    }
}

/// The shipped file as it is, with its defaults written out, and with its examples.
fn configurations(shipped: &PathBuf) -> io::Result<Vec<(String, String)>> {
    let text = fs::read_to_string(shipped)?;
    let uncommented = |keep: fn(&str) -> Option<&str>| {
        text.lines().filter_map(keep).map(|line| format!("{line}\n")).collect::<String>()
    };
    let default = uncommented(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')));
    let example = uncommented(|line| line.strip_prefix("#   "));
    Ok(vec![
        ("shipped".to_owned(), text.clone()),
        ("defaults".to_owned(), default),
        ("examples".to_owned(), example),
    ])
}

/// `text` as the pieces that `settings` puts together.
fn pieces(mut text: &str) -> Vec<u8> {
    let mut pieces = Vec::new();
    while let Some(letter) = text.chars().next() {
        let longest = PIECES.iter().enumerate().filter(|(_, piece)| text.starts_with(**piece));
        match longest.max_by_key(|(_, piece)| piece.len()) {
            Some((index, piece)) => {
                pieces.push(index as u8);
                text = &text[piece.len()..];
            }
            None => {
                if letter.is_ascii() {
                    pieces.push(letter as u8 | 128);
                }
                text = &text[letter.len_utf8()..];
            }
        }
    }
    pieces
}

/// Bytes by lot (xorshift, Marsaglia 2003).
fn script(number: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ number;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(SCRIPT_BYTES).collect()
}
