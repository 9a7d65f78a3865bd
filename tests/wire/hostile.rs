//! Bytes that mean harm: whatever is received, nothing panics, and memory stays within bounds.

use allocation_counter::measure;
use fastrand::Rng;
use poold::id::{FunctionName, PoolName};
use poold::limits::{DECODE_BYTES_MAX, FUNCTION_NAME_BYTES_MAX, HEAD_BYTES_MAX, POOL_NAME_BYTES_MAX};
use poold::message::client::{Refusal, Reply, Request};
use poold::message::worker::{FromWorker, ToWorker};
use poold::wire::{Answer, FRAME_HEADER_BYTES, Hello, Inbox, WireError, decode_value, encode_value};

use crate::samples;

const SEED: u64 = 0x706f_6f6c_6400_0001;

/// Bytes of memory that receiving one frame may take at a time: what came, and what it decodes to.
const MEMORY_BYTES_MAX: u64 = 8 * DECODE_BYTES_MAX as u64;

/// Receives `bytes` as each direction in turn, up to the first refusal, and bounds the memory it takes.
fn receive_as_anything(bytes: &[u8]) {
    let memory = measure(|| {
        let _ = Hello::decode(bytes);
        let _ = Answer::decode(bytes);
        receive_all::<Request>(bytes);
        receive_all::<Reply>(bytes);
        receive_all::<ToWorker>(bytes);
        receive_all::<FromWorker>(bytes);
    });
    assert_eq!(memory.bytes_current, 0);
    assert!(memory.bytes_max < MEMORY_BYTES_MAX, "{memory:?} for {:02x?}", &bytes[..bytes.len().min(64)]);
}

fn receive_all<M: poold::message::Message>(mut bytes: &[u8]) {
    let mut inbox = Inbox::default();
    while !bytes.is_empty() {
        inbox.fill(&mut bytes).expect("a slice can be read");
        while let Ok(Some(_)) = inbox.next_message::<M>() {}
    }
}

fn frame(head: &[u8], payload: &[u8]) -> Vec<u8> {
    let lengths = [head.len(), payload.len()].map(|bytes| (bytes as u32).to_le_bytes());
    [&lengths.concat(), head, payload].concat()
}

/// A generator of its own for each test, and the room for reading allocated, so that it is not measured.
fn random(test: u64) -> Rng {
    println!("seed {SEED:#x}");
    Inbox::default().fill(&mut &b"x"[..]).expect("a slice can be read");
    Rng::with_seed(SEED + test)
}

#[test]
fn random_bytes_do_no_harm() {
    let mut random = random(1);
    for _ in 0..20_000 {
        let mut bytes = vec![0; random.usize(..200)];
        random.fill(&mut bytes);
        receive_as_anything(&bytes);
        receive_as_anything(&frame(&bytes, b""));
        if let Some(tag) = bytes.first_mut() {
            *tag %= 16;
            receive_as_anything(&frame(&bytes, b"payload"));
        }
    }
}

#[test]
fn damaged_messages_do_no_harm() {
    let mut random = random(2);
    for (_, sample) in samples::all() {
        let whole = sample.encode();
        for _ in 0..200 {
            let mut bytes = whole.clone();
            for _ in 0..random.usize(1..4) {
                let position = random.usize(..bytes.len());
                match random.u8(..4) {
                    0 => bytes[position] ^= 1 << random.u8(..8),
                    1 => {
                        bytes[position] =
                            random.choice([0, 1, 0x7f, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff]).unwrap_or(0)
                    }
                    2 => bytes.truncate(position.max(1)),
                    _ => bytes.insert(position, random.u8(..)),
                }
            }
            receive_as_anything(&bytes);
        }
    }
}

/// Puts a length that nothing can have at every place of every message.
#[test]
fn giant_lengths_inside_a_head_do_no_harm() {
    random(3);
    for length in [1 << 18, 1 << 21, 1 << 31, 1 << 40, u64::MAX] {
        let length = encode_value(&length).expect("an integer can be encoded");
        for (_, sample) in samples::all() {
            let head = &sample.encode()[8..];
            for position in 0..head.len() {
                let forged = [&head[..position], &length, &head[position + 1..]].concat();
                receive_as_anything(&frame(&forged, b""));
            }
        }
    }
}

/// Puts behind the head of each message of many tasks what is not as many payloads as that says.
#[test]
fn payloads_that_are_not_what_their_head_announces_are_refused() {
    let mut refused = 0;
    for (name, sample) in samples::all() {
        let Some(payloads) = sample.payloads() else { continue };
        let whole = sample.encode();
        let (head, bytes) =
            whole[FRAME_HEADER_BYTES..].split_at(whole.len() - FRAME_HEADER_BYTES - sample.payload_bytes());
        let cut = (0..bytes.len()).map(|end| bytes[..end].to_vec());
        let longer = [&[0][..], &[0, 0], &[1, 0], &[0xff; 8]].map(|more| [bytes, more].concat());
        for forged in cut.chain(longer) {
            let mut inbox = Inbox::default();
            inbox.fill(&mut &frame(head, &forged)[..]).expect("a slice can be read");
            let announced = payloads.count();
            let refusal = sample.next_alike(&mut inbox);
            assert_eq!(refusal, Err(WireError::PayloadsMalformed { announced }), "{name}: {forged:02x?}");
            receive_as_anything(&frame(head, &forged));
            refused += 1;
        }
    }
    assert!(refused > 0);
}

/// None, and more than any frame holds.
#[test]
fn head_that_announces_no_payloads_or_countless_ones_is_refused() {
    random(5);
    let run = [&[5, 1][..], &[0xfc, 1, 0, 0, 0, 1], &[1, b'f'], &[1]].concat();
    for announced in [0, 1, u32::MAX] {
        let count = encode_value(&announced).expect("an integer can be encoded");
        let forged = frame(&[&run, &count[..]].concat(), b"");
        let mut inbox = Inbox::default();
        inbox.fill(&mut &forged[..]).expect("a slice can be read");
        let refusal = inbox.next_message::<ToWorker>();
        assert_eq!(refusal, Err(WireError::PayloadsMalformed { announced }));
        receive_as_anything(&forged);
    }
}

#[test]
fn text_that_announces_more_than_its_head_holds_is_refused_before_it_is_allocated() {
    for announced in [HEAD_BYTES_MAX as u64 * 8, u64::MAX] {
        let length = encode_value(&announced).expect("an integer can be encoded");
        let mut inbox = Inbox::default();
        let mut bytes = &frame(&[&[1], &length[..]].concat(), b"")[..];
        inbox.fill(&mut bytes).expect("a slice can be read");
        let memory = measure(|| {
            let refused = inbox.next_message::<FromWorker>();
            assert!(matches!(refused, Err(WireError::Malformed(_))), "{refused:?}");
        });
        assert!(memory.bytes_max < 1024, "{memory:?}");
    }
}

/// The head that decodes to the most memory for its size: as many rows as fit, each as short as it can be.
#[test]
fn head_full_of_the_shortest_rows_stays_within_the_memory_cap() {
    random(4);
    let ready = [0].iter().chain(&[0xfc, 0, 0, 1, 0]);
    let rows = [1, b'a', 0, 0].iter().cycle();
    let head: Vec<u8> = ready.chain(rows).copied().take(HEAD_BYTES_MAX).collect();
    receive_as_anything(&frame(&head, b""));
    let reloaded = [0, 9].iter().chain(&[0xfc, 0, 0, 4, 0]);
    let head: Vec<u8> = reloaded.chain(std::iter::repeat(&0)).copied().take(HEAD_BYTES_MAX).collect();
    receive_as_anything(&frame(&head, b""));
}

#[test]
fn name_that_is_none_is_refused_where_it_is_decoded() {
    let long_function = "f".repeat(FUNCTION_NAME_BYTES_MAX + 1);
    for name in ["", "is prime", "na\u{ef}ve", "a\nb", "a\0b", &long_function] {
        let refused = decode_value::<FunctionName>(&encode_value(&name).expect("text can be encoded"));
        assert!(matches!(refused, Err(WireError::Malformed(_))), "{name:?}: {refused:?}");
    }
    let long_pool = "p".repeat(POOL_NAME_BYTES_MAX + 1);
    for name in ["", "a.b", "a/b", &long_pool] {
        let refused = decode_value::<PoolName>(&encode_value(&name).expect("text can be encoded"));
        assert!(matches!(refused, Err(WireError::Malformed(_))), "{name:?}: {refused:?}");
    }
    let longest = "f".repeat(FUNCTION_NAME_BYTES_MAX);
    let accepted = decode_value::<FunctionName>(&encode_value(&longest).expect("text can be encoded"));
    assert_eq!(accepted.map(String::from), Ok(longest));
}

#[test]
fn refusal_of_a_bad_name_is_one_short_line() {
    let name = format!("a\nb{}", "x".repeat(100_000));
    let refused = decode_value::<FunctionName>(&encode_value(&name).expect("text can be encoded"));
    let line = Refusal::Protocol(refused.expect_err("it is no name").to_string()).to_string();
    assert!(line.contains("is not a function name"), "{line}");
    assert!(line.len() < 512 && !line.contains('\n'), "{line}");
}
