//! The first bytes of either side: understood once all are there and not before, however they come.

use poold::wire::{Answer, HANDSHAKE_BYTES, Hello, Inbox, VERSION_MAX, VERSION_MIN, agree_on_version};

/// A hello or an answer, and what follows.
pub fn handshake(input: &[u8]) {
    for length in 0..input.len().min(HANDSHAKE_BYTES) {
        let part = &input[..length];
        assert!(!matches!(Hello::decode(part), Ok(Some(_))), "a part of a hello is taken for one");
        assert!(!matches!(Answer::decode(part), Ok(Some(_))), "a part of an answer is taken for one");
    }
    if let Ok(Some(hello)) = Hello::decode(input) {
        assert_eq!(hello.encode(), input[..HANDSHAKE_BYTES]);
        check_version(&hello);
    }
    if let Ok(Some(answer)) = Answer::decode(input) {
        assert_eq!(Answer::decode(&answer.encode()), Ok(Some(answer)));
    }
    check_pieces(input);
}

fn check_version(hello: &Hello) {
    let spoken = hello.version_min..=hello.version_max;
    match agree_on_version(hello) {
        Some(version) => {
            assert!(spoken.contains(&version) && (VERSION_MIN..=VERSION_MAX).contains(&version))
        }
        None => assert!(!(VERSION_MIN..=VERSION_MAX).any(|version| spoken.contains(&version))),
    }
}

/// Byte by byte, the same is understood as at once.
fn check_pieces(input: &[u8]) {
    let (mut hellos, mut answers) = (Inbox::default(), Inbox::default());
    let (mut hello, mut answer) = (Ok(None), Ok(None));
    for byte in input.iter().take(HANDSHAKE_BYTES) {
        for inbox in [&mut hellos, &mut answers] {
            inbox.fill(&mut [*byte].as_slice()).expect("a slice can be read");
        }
        hello = hello.and_then(|_| hellos.next_hello());
        answer = answer.and_then(|_| answers.next_answer());
    }
    assert_eq!(hello, Hello::decode(input));
    assert_eq!(answer, Answer::decode(input));
}
