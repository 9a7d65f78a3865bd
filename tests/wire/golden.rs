//! The bytes of version 1, for ever: a fixture file, what is encoded, what is decoded, what the
//! document says and what a program in another language makes of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use poold::limits;
use poold::message::client::{CancelAnswer, Refusal, ReplyBody, RequestBody};
use poold::message::status::{Phase, TaskState, WorkerState};
use poold::message::worker::{FromWorker, Report, ToWorker};
use poold::task::{
    Attachment, CancelReason, Content, Deadline, Encoding, Exit, FailureKind, Limit, Outcome, OutcomeKind,
    Started,
};
use poold::wire::{
    Answer, FRAME_HEADER_BYTES, HANDSHAKE_BYTES, Hello, Inbox, Role, Verdict, WireError, agree_on_version,
    decode_value, encode_value,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::samples::{self, Sample, nested};

fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(repository(path)).expect("the file is in the repository")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How a sample stands in the fixture: its value, then its name and the three parts of its frame.
fn vector(name: &str, sample: &Sample) -> String {
    let frame = sample.encode();
    let (header, rest) = frame.split_at(FRAME_HEADER_BYTES);
    let (head, payload) = rest.split_at(rest.len() - sample.payload_bytes());
    let parts = [header, head, payload].map(hex).join(" ");
    format!("# {}\n{name}: {}\n", sample.json(), parts.trim_end())
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// The bytes that the fixture has under `name`.
fn golden(fixture: &str, name: &str) -> Vec<u8> {
    let start = format!("{name}: ");
    let line = fixture.lines().find_map(|line| line.strip_prefix(&start));
    unhex(line.unwrap_or_else(|| panic!("the fixture has no {name}")))
}

#[test]
fn messages_encode_to_their_golden_bytes() {
    let fixture = read("tests/fixtures/wire-v1.txt");
    let vectors = samples::all().into_iter().map(|(name, sample)| vector(&name, &sample));
    let missing: Vec<String> = vectors.filter(|vector| !fixture.contains(vector)).collect();
    assert!(
        missing.is_empty(),
        "the wire changed, or new samples are not recorded:\n\n{}",
        missing.join("\n")
    );
}

#[test]
fn golden_bytes_decode_to_their_messages() {
    let fixture = read("tests/fixtures/wire-v1.txt");
    for (name, sample) in samples::all() {
        let mut inbox = Inbox::default();
        inbox.fill(&mut golden(&fixture, &name).as_slice()).expect("a slice can be read");
        let expected = match sample.is_shared() {
            false => Ok(Some(sample.clone())),
            // Its descriptor is no part of its bytes.
            true => Err(WireError::MissingDescriptors { announced: 1, received: 0 }),
        };
        assert_eq!(sample.next_alike(&mut inbox), expected, "{name}");
        assert!(inbox.is_empty(), "{name}");
    }
}

#[test]
fn fixture_has_a_sample_for_each_of_its_vectors() {
    let fixture = read("tests/fixtures/wire-v1.txt");
    let names: BTreeSet<String> = samples::all().into_iter().map(|(name, _)| name).collect();
    let vectors =
        fixture.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(':'));
    for (name, _) in vectors.filter(|(name, _)| !name.starts_with("hello.") && !name.starts_with("answer.")) {
        assert!(names.contains(name), "{name} is in the fixture and no longer a sample");
    }
}

#[test]
fn handshakes_have_their_golden_bytes_both_ways() {
    let fixture = read("tests/fixtures/wire-v1.txt");
    for (name, role) in [("hello.client", Role::Client), ("hello.worker", Role::Worker)] {
        let bytes = golden(&fixture, name);
        assert_eq!(Hello::decode(&bytes), Ok(Some(Hello::new(role))), "{name}");
        assert_eq!(Hello::new(role).encode().as_slice(), bytes, "{name}");
    }
    let verdicts = [
        ("answer.accepted", Verdict::Accepted),
        ("answer.not_a_handshake", Verdict::NotAHandshake),
        ("answer.no_common_version", Verdict::NoCommonVersion),
        ("answer.wrong_role", Verdict::WrongRole),
        ("answer.too_many_connections", Verdict::TooManyConnections),
        ("answer.not_allowed", Verdict::NotAllowed),
        ("answer.too_many_of_user", Verdict::TooManyOfUser),
    ];
    for (name, verdict) in verdicts {
        let bytes = golden(&fixture, name);
        let answer = Answer { verdict, version: 1 };
        assert_eq!(Answer::decode(&bytes), Ok(Some(answer)), "{name}");
        assert_eq!(answer.encode().as_slice(), bytes, "{name}");
    }
}

#[test]
fn value_larger_than_a_frame_is_decoded_as_it_was_encoded() {
    let value = vec![1_u64; 3 * limits::FRAME_BYTES_MAX];
    let bytes = encode_value(&value).expect("it has an encoding");
    assert!(decode_value::<Vec<u64>>(&bytes) == Ok(value));
}

#[test]
fn version_is_the_newest_that_both_speak() {
    let hello = |version_min, version_max| Hello { role: Role::Client, version_min, version_max };
    assert_eq!(agree_on_version(&hello(1, 1)), Some(1));
    assert_eq!(agree_on_version(&hello(1, 9)), Some(1));
    assert_eq!(agree_on_version(&hello(0, 1)), Some(1));
    assert_eq!(agree_on_version(&hello(2, 9)), None);
    assert_eq!(agree_on_version(&hello(0, 0)), None);
    assert_eq!(agree_on_version(&hello(9, 1)), None);
}

#[test]
fn handshake_that_differs_in_any_byte_of_its_layout_is_none() {
    for position in 0..HANDSHAKE_BYTES - 4 {
        let mut bytes = Hello::new(Role::Client).encode();
        bytes[position] ^= 0x40;
        assert!(Hello::decode(&bytes).is_err(), "byte {position}");
        let early = Hello::decode(&bytes[..=position]);
        assert!(early.is_err() || position >= 6, "a wrong magic is known by its first wrong byte");
    }
}

/// How many variants an enum has, by what its decoding accepts for a tag.
fn variants<T: DeserializeOwned>() -> usize {
    let unknown = |tag: &u8| {
        decode_value::<T>(&[*tag]).is_err_and(|error| error.to_string().contains("expected variant index"))
    };
    (0..=u8::MAX).find(unknown).expect("an enum has few variants").into()
}

/// Asserts that `values` have every variant that their type has.
fn assert_every_variant<T: Serialize + DeserializeOwned>(values: impl IntoIterator<Item = T>) {
    let tag = |value: T| encode_value(&value).expect("a value of a message can be encoded")[0];
    let seen: BTreeSet<u8> = values.into_iter().map(tag).collect();
    let wanted = 0..variants::<T>() as u8;
    assert!(seen.into_iter().eq(wanted), "{} has a variant without a sample", std::any::type_name::<T>());
}

fn values<N, T>(named: Vec<(N, T)>) -> impl Iterator<Item = T> {
    named.into_iter().map(|(_, value)| value)
}

#[test]
fn every_variant_of_every_message_has_a_sample() {
    assert_every_variant::<RequestBody>(values(samples::requests()));
    assert_every_variant::<ReplyBody>(values(samples::replies()));
    assert_every_variant::<ToWorker>(values(samples::to_worker()));
    assert_every_variant::<FromWorker>(values(samples::from_worker()));
    assert_every_variant::<Report>(values(nested::reports()));
    assert_every_variant::<Refusal>(values(nested::refusals()));
    assert_every_variant::<Outcome>(values(nested::outcomes()));
    assert_every_variant::<TaskState>(values(nested::states()));
    assert_every_variant::<CancelAnswer>(values(nested::cancel_answers()));
    assert_every_variant::<Phase>(values(nested::phases()));
    assert_every_variant::<WorkerState>(nested::worker_states());
    assert_every_variant::<OutcomeKind>(OutcomeKind::ALL);
    assert_every_variant::<Encoding>(values(nested::encodings()).map(|payload| payload.encoding));
    assert_every_variant::<Content>(values(nested::encodings()).map(|payload| payload.content));
    assert_every_variant::<Deadline>(values(nested::specs()).filter_map(|spec| spec.deadline));

    let submitted = values(samples::requests()).filter_map(|body| match body {
        RequestBody::Submit { spec, .. } => Some(spec.attachment),
        _ => None,
    });
    assert_every_variant::<Attachment>(submitted);
    let mut failures = Vec::new();
    let mut exits = Vec::new();
    let mut limits = Vec::new();
    let mut reasons = Vec::new();
    let mut starts = Vec::new();
    for outcome in values(nested::outcomes()) {
        match outcome {
            Outcome::Ok(_) => {}
            Outcome::Failed(failure) => failures.push(failure.kind),
            Outcome::Crashed(exit) => exits.push(exit),
            Outcome::TimedOut(limit) => limits.push(limit),
            Outcome::Cancelled(reason) => reasons.push(reason),
            Outcome::Lost { started } => starts.push(started),
        }
    }
    assert_every_variant::<FailureKind>(failures);
    assert_every_variant::<Exit>(exits);
    assert_every_variant::<Limit>(limits);
    assert_every_variant::<CancelReason>(reasons);
    assert_every_variant::<Started>(starts);
}

#[test]
fn document_quotes_the_vectors_as_they_are() {
    let fixture = read("tests/fixtures/wire-v1.txt");
    let document = read("docs/PROTOCOL.md");
    let blocks = document.split("```vectors\n").skip(1);
    let quoted: Vec<&str> =
        blocks.flat_map(|block| block.lines().take_while(|line| !line.starts_with("```"))).collect();
    assert!(!quoted.is_empty());
    for line in quoted {
        assert!(fixture.lines().any(|vector| vector == line), "not in the fixture: {line}");
    }
}

#[test]
fn document_states_the_caps_as_they_are() {
    let document = read("docs/PROTOCOL.md");
    let caps = [
        ("a frame, its 8 bytes of lengths included | ", limits::FRAME_BYTES_MAX),
        ("a head | ", limits::HEAD_BYTES_MAX),
        ("a payload inside a frame | ", limits::INLINE_BYTES_MAX),
        ("a payload in shared memory | ", limits::PAYLOAD_BYTES_MAX as usize),
        ("what goes beyond ", limits::MESSAGE_BYTES_MAX),
        ("crashed, timed out or lost; at most ", limits::RETRIES_MAX as usize),
        ("what it can run (at most ", limits::FUNCTIONS_PER_WORKER_MAX),
        ("a name of 1 to ", limits::FUNCTION_NAME_BYTES_MAX),
        ("a **pool** one of 1 to ", limits::POOL_NAME_BYTES_MAX),
        ("a page of at most ", limits::PAGE_ROWS_MAX),
    ];
    let digits = document.replace(',', "");
    for (sentence, cap) in caps {
        let stated = format!("{}{cap}", sentence.replace(',', ""));
        assert!(digits.contains(&stated), "the document does not say: {stated}");
    }
}

/// `tests/protocol/wire.py` knows nothing but `docs/PROTOCOL.md`: it reads the layouts out of it.
#[test]
fn program_written_from_the_document_decodes_and_encodes_every_vector() {
    let output = Command::new("python3")
        .arg(repository("tests/protocol/wire.py"))
        .arg(repository("tests/fixtures/wire-v1.txt"))
        .output()
        .expect("python3 is installed");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    let handshakes = 9;
    assert_eq!(stdout.trim(), format!("{} vectors", samples::all().len() + handshakes));
}
