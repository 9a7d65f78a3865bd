//! Where messages begin and end, however the bytes arrive, and what an inbox costs.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use allocation_counter::measure;
use bytes::{Bytes, BytesMut};
use poold::id::{AttemptId, RequestId};
use poold::limits::{FRAME_BYTES_MAX, HEAD_BYTES_MAX};
use poold::message::client::{Reply, ReplyBody, Request, RequestBody};
use poold::message::worker::{FromWorker, Report, ToWorker};
use poold::task::{Encoding, Payload, PayloadsMut};
use poold::wire::{
    EncodedSpec, FRAME_HEADER_BYTES, Filled, HANDSHAKE_BYTES, Hello, Inbox, ReceiveError, Role, WireError,
    encode, encode_result, encode_submission, encode_submissions,
};

use crate::samples::{self, Sample};

/// A stream whose reads give, one after the other, just this.
struct Script(VecDeque<io::Result<Vec<u8>>>);

impl Script {
    fn new(reads: impl IntoIterator<Item = io::Result<Vec<u8>>>) -> Self {
        Script(reads.into_iter().collect())
    }
}

impl Read for Script {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let bytes = self.0.pop_front().unwrap_or(Ok(Vec::new()))?;
        room[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}

fn fill(inbox: &mut Inbox, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        inbox.fill(&mut bytes).expect("a slice can be read");
    }
}

fn request(body: RequestBody) -> Request {
    Request { id: RequestId(1), body }
}

fn finished(payload_bytes: usize) -> FromWorker {
    let result = Payload::new(Encoding::Bytes, Bytes::from(vec![7; payload_bytes]));
    FromWorker::Finished { attempt: AttemptId(1), report: Report::Ok(result) }
}

fn encoded<M: poold::message::Message>(message: &M) -> BytesMut {
    let mut out = BytesMut::new();
    encode(message, &mut out).expect("the message is within the caps");
    out
}

#[test]
fn submission_of_an_encoded_specification_is_the_same_bytes() {
    let mut compared = 0;
    for (name, body) in samples::requests() {
        let RequestBody::Submit { spec, args } = &body else { continue };
        for id in [1, 250, 1 << 16, u64::MAX].map(RequestId) {
            let mut out = BytesMut::from(&b"before"[..]);
            let encoded_spec = EncodedSpec::new(spec).expect("it can be encoded");
            encode_submission(id, &encoded_spec, args, &mut out).expect("it is within the caps");
            assert_eq!(out[6..], encoded(&Request { id, body: body.clone() }), "{name}");
            compared += 1;
        }
    }
    assert!(compared > 0);
}

#[test]
fn submissions_of_an_encoded_specification_are_the_same_bytes() {
    let mut compared = 0;
    for (name, body) in samples::requests() {
        let RequestBody::Submit { spec, .. } = body else { continue };
        let encoded_spec = EncodedSpec::new(&spec).expect("it can be encoded");
        for count in [1, 2, 300] {
            let mut args = PayloadsMut::default();
            (0..count).for_each(|number| args.push(Encoding::Json, format!("[{number}]").as_bytes()));
            let mut out = BytesMut::from(&b"before"[..]);
            encode_submissions(RequestId(250), &encoded_spec, &args, &mut out)
                .expect("it is within the caps");
            let body = match count {
                1 => RequestBody::Submit {
                    spec: spec.clone(),
                    args: Payload::new(Encoding::Json, &b"[0]"[..]),
                },
                _ => RequestBody::SubmitAll { spec: spec.clone(), args: args.take() },
            };
            assert_eq!(out[6..], encoded(&Request { id: RequestId(250), body }), "{count} of {name}");
            compared += 1;
        }
    }
    assert!(compared > 0);
}

/// Numbers at the ends of what each length of an integer holds.
const NUMBERS: [u64; 8] = [0, 250, 251, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_0000_0000, u64::MAX];

const ENCODINGS: [Encoding; 5] =
    [Encoding::Args, Encoding::Json, Encoding::Bincode, Encoding::Bytes, Encoding::Pickle];

fn finished_with(attempt: u64, encoding: Encoding, bytes: &[u8]) -> FromWorker {
    let result = Payload::new(encoding, bytes);
    FromWorker::Finished { attempt: AttemptId(attempt), report: Report::Ok(result) }
}

/// What is taken as results, each as the message that it is.
fn taken_results(inbox: &mut Inbox) -> Vec<FromWorker> {
    let mut taken = Vec::new();
    inbox.take_results(|attempt, encoding, bytes| taken.push(finished_with(attempt.0, encoding, bytes)));
    taken
}

#[test]
fn result_is_the_same_bytes_as_its_message_and_taken_as_that() {
    let mut inbox = Inbox::default();
    let mut sent = Vec::new();
    for attempt in NUMBERS {
        for encoding in ENCODINGS {
            for bytes in [0, 1, 22, 23, 300, 70_000].map(|length| vec![7; length]) {
                let message = finished_with(attempt, encoding, &bytes);
                let mut out = BytesMut::from(&b"before"[..]);
                encode_result(AttemptId(attempt), encoding, &bytes, &mut out).expect("it is within the caps");
                assert_eq!(out[6..], encoded(&message), "{message:?}");
                fill(&mut inbox, &out[6..]);
                sent.push(message);
            }
        }
    }
    assert_eq!(taken_results(&mut inbox), sent);
    assert!(inbox.is_empty());
}

#[test]
fn result_over_the_cap_is_not_sent() {
    let mut out = BytesMut::from(&b"before"[..]);
    let refusal = encode_result(AttemptId(1), Encoding::Bytes, &vec![7; FRAME_BYTES_MAX], &mut out);
    assert!(matches!(refusal, Err(WireError::FrameTooLarge { .. })), "{refusal:?}");
    assert_eq!(out, b"before"[..]);
}

#[test]
fn results_are_taken_up_to_what_is_none() {
    let result = finished_with(1, Encoding::Json, b"7");
    for (name, sample) in samples::all().into_iter().filter(|(_, sample)| !sample.is_shared()) {
        let mut inbox = Inbox::default();
        [encoded(&result), encoded(&result)].iter().for_each(|frame| fill(&mut inbox, frame));
        fill(&mut inbox, &sample.encode());
        match &sample {
            Sample::FromWorker(message @ FromWorker::Finished { report: Report::Ok(_), .. }) => {
                assert_eq!(taken_results(&mut inbox), [result.clone(), result.clone(), message.clone()]);
            }
            other => {
                assert_eq!(taken_results(&mut inbox), [result.clone(), result.clone()], "{name}");
                assert_eq!(other.next_alike(&mut inbox), Ok(Some(other.clone())), "{name}");
            }
        }
        assert!(inbox.is_empty(), "{name}");
    }
}

#[test]
fn result_that_is_not_whole_or_malformed_is_left_to_be_told() {
    let whole = encoded(&finished_with(300, Encoding::Json, b"7"));
    for cut in 0..whole.len() {
        let mut inbox = Inbox::default();
        fill(&mut inbox, &whole[..cut]);
        assert_eq!(taken_results(&mut inbox), [], "cut at {cut}");
        fill(&mut inbox, &whole[cut..]);
        assert_eq!(taken_results(&mut inbox).len(), 1, "cut at {cut}");
    }
    // Its head is six bytes and an attempt's three.
    for position in 0..FRAME_HEADER_BYTES + 8 {
        for byte in 0..=u8::MAX {
            let mut changed = whole.clone();
            changed[position] = byte;
            let mut inbox = Inbox::default();
            fill(&mut inbox, &changed);
            let taken = taken_results(&mut inbox);
            let mut by_message = Inbox::default();
            fill(&mut by_message, &changed);
            if let Some(taken) = taken.into_iter().next() {
                assert_eq!(by_message.next_message(), Ok(Some(taken)), "{byte} at {position}");
            }
        }
    }
}

/// Those that go without descriptors.
fn inline_requests() -> Vec<(String, RequestBody)> {
    let has_none = |args: &Payload| args.memory_descriptors() == 0 && args.descriptors.count() == 0;
    let is_inline = |body: &RequestBody| match body {
        RequestBody::Submit { args, .. } => has_none(args),
        _ => true,
    };
    samples::requests().into_iter().filter(|(_, body)| is_inline(body)).collect()
}

#[test]
fn request_after_others_is_what_it_is_by_itself() {
    let requests = inline_requests();
    let request = |id, body: &RequestBody| Request { id: RequestId(id), body: body.clone() };
    for (before, first) in &requests {
        for (name, second) in &requests {
            let sent = [request(1, first), request(250, first), request(1 << 20, first), request(4, second)];
            let mut inbox = Inbox::default();
            sent.iter().for_each(|request| fill(&mut inbox, &encoded(request)));
            for expected in sent {
                assert_eq!(inbox.next_request(), Ok(Some(expected)), "{name} after {before}");
            }
        }
    }
}

#[test]
fn request_cut_short_is_malformed_after_others_too() {
    for (name, body) in inline_requests() {
        let request = Request { id: RequestId(300), body };
        let whole = encoded(&request);
        let payload_bytes = Sample::Request(request).payload_bytes();
        let head = &whole[FRAME_HEADER_BYTES..whole.len() - payload_bytes];
        for cut in 0..head.len() {
            let mut inbox = Inbox::default();
            (0..2).for_each(|_| fill(&mut inbox, &whole));
            fill(&mut inbox, &(cut as u32).to_le_bytes());
            fill(&mut inbox, &0_u32.to_le_bytes());
            fill(&mut inbox, &head[..cut]);
            assert!(inbox.next_request().is_ok() && inbox.next_request().is_ok());
            let decoded = inbox.next_request();
            assert!(matches!(decoded, Err(WireError::Malformed(_))), "{name} cut at {cut}: {decoded:?}");
        }
    }
}

#[test]
fn message_cut_anywhere_is_incomplete_and_the_rest_completes_it() {
    for (name, sample) in samples::all().into_iter().filter(|(_, sample)| !sample.is_shared()) {
        let frame = sample.encode();
        for cut in 0..frame.len() {
            let mut inbox = Inbox::default();
            fill(&mut inbox, &frame[..cut]);
            assert_eq!(sample.next_alike(&mut inbox), Ok(None), "{name} cut at {cut}");
            fill(&mut inbox, &frame[cut..]);
            assert_eq!(sample.next_alike(&mut inbox), Ok(Some(sample.clone())), "{name} cut at {cut}");
        }
    }
}

#[test]
fn head_shorter_than_its_message_is_malformed_at_every_length() {
    for (name, sample) in samples::all() {
        let frame = sample.encode();
        let head = &frame[FRAME_HEADER_BYTES..frame.len() - sample.payload_bytes()];
        for cut in 0..head.len() {
            let mut inbox = Inbox::default();
            fill(&mut inbox, &(cut as u32).to_le_bytes());
            fill(&mut inbox, &0_u32.to_le_bytes());
            fill(&mut inbox, &head[..cut]);
            let decoded = sample.next_alike(&mut inbox);
            assert!(matches!(decoded, Err(WireError::Malformed(_))), "{name} cut at {cut}: {decoded:?}");
        }
    }
}

#[test]
fn bytes_after_the_message_in_a_head_are_refused() {
    for (name, sample) in samples::all() {
        let mut frame = sample.encode();
        let head_bytes = frame.len() - FRAME_HEADER_BYTES - sample.payload_bytes();
        frame.insert(FRAME_HEADER_BYTES + head_bytes, 0);
        frame[..4].copy_from_slice(&(head_bytes as u32 + 1).to_le_bytes());
        let mut inbox = Inbox::default();
        fill(&mut inbox, &frame);
        assert_eq!(sample.next_alike(&mut inbox), Err(WireError::TrailingBytes { bytes: 1 }), "{name}");
    }
}

#[test]
fn payload_on_a_message_that_has_none_is_refused() {
    let mut frame = encoded(&request(RequestBody::Status));
    frame[4] = 1;
    let mut inbox = Inbox::default();
    fill(&mut inbox, &frame);
    fill(&mut inbox, b"x");
    assert_eq!(inbox.next_message::<Request>(), Err(WireError::UnexpectedPayload { bytes: 1 }));
}

#[test]
fn message_of_another_direction_is_malformed() {
    let mut inbox = Inbox::default();
    fill(&mut inbox, &encoded(&ToWorker::Recall { attempt: AttemptId(1) }));
    assert!(matches!(inbox.next_message::<Reply>(), Err(WireError::Malformed(_))));
}

#[test]
fn two_messages_in_one_read_come_out_one_by_one() {
    let first = request(RequestBody::Status);
    let second = request(RequestBody::Workers { skip: 7 });
    let mut inbox = Inbox::default();
    let both = [encoded(&first), encoded(&second)].concat();
    assert_eq!(inbox.fill(&mut both.as_slice()).ok(), Some(Filled::Bytes { bytes: both.len(), full: false }));
    assert_eq!(inbox.next_message(), Ok(Some(first)));
    assert_eq!(inbox.next_message(), Ok(Some(second)));
    assert_eq!(inbox.next_message::<Request>(), Ok(None));
}

#[test]
fn handshake_and_messages_one_byte_at_a_time_are_understood() {
    let is_plain = |sample: &Sample| matches!(sample, Sample::Request(_)) && !sample.is_shared();
    let (names, sent): (Vec<String>, Vec<Sample>) =
        samples::all().into_iter().filter(|(_, sample)| is_plain(sample)).unzip();
    let mut bytes = Hello::new(Role::Client).encode().to_vec();
    bytes.extend(sent.iter().flat_map(Sample::encode));

    let mut inbox = Inbox::default();
    let mut hello = None;
    let mut received = Vec::new();
    for (position, byte) in bytes.iter().enumerate() {
        fill(&mut inbox, &[*byte]);
        if position < HANDSHAKE_BYTES {
            hello = inbox.next_hello().expect("it is a hello");
            assert_eq!(hello.is_some(), position == HANDSHAKE_BYTES - 1);
        } else if let Some(message) = inbox.next_message().expect("they are requests") {
            received.push(Sample::Request(message));
        }
    }
    assert_eq!(hello, Some(Hello::new(Role::Client)));
    assert_eq!(received, sent, "{names:?}");
    assert!(inbox.is_empty());
}

fn header(head_bytes: u32, payload_bytes: u32) -> Vec<u8> {
    [head_bytes.to_le_bytes(), payload_bytes.to_le_bytes()].concat()
}

#[test]
fn frame_over_a_cap_is_refused_by_its_header_alone() {
    let frame_max = FRAME_BYTES_MAX as u32;
    let head_max = HEAD_BYTES_MAX as u32;
    let header_bytes = FRAME_HEADER_BYTES as u32;
    let cases = [
        (0, frame_max - header_bytes + 1, WireError::FrameTooLarge { bytes: u64::from(frame_max) + 1 }),
        (head_max + 1, 0, WireError::HeadTooLarge { bytes: u64::from(head_max) + 1 }),
        (u32::MAX, u32::MAX, WireError::FrameTooLarge { bytes: 2 * u64::from(u32::MAX) + 8 }),
    ];
    for (head_bytes, payload_bytes, refusal) in cases {
        let mut inbox = Inbox::default();
        fill(&mut inbox, &header(head_bytes, payload_bytes));
        assert_eq!(inbox.next_message::<Request>(), Err(refusal));
    }
    for (head_bytes, payload_bytes) in [(0, frame_max - header_bytes), (head_max, 0)] {
        let mut inbox = Inbox::default();
        fill(&mut inbox, &header(head_bytes, payload_bytes));
        assert_eq!(inbox.next_message::<Request>(), Ok(None), "at the cap, the rest is waited for");
    }
}

#[test]
fn largest_frame_passes_and_one_byte_more_is_not_sent() {
    let rest = encoded(&finished(0)).len();
    let largest = finished(FRAME_BYTES_MAX - rest);
    let mut inbox = Inbox::default();
    fill(&mut inbox, &encoded(&largest));
    assert_eq!(inbox.next_message(), Ok(Some(largest)));

    let mut out = BytesMut::from(&b"before"[..]);
    let refusal = encode(&finished(FRAME_BYTES_MAX - rest + 1), &mut out);
    assert_eq!(refusal, Err(WireError::FrameTooLarge { bytes: FRAME_BYTES_MAX as u64 + 1 }));
    let changes = vec!["x".repeat(HEAD_BYTES_MAX)];
    let refusal = encode(&Reply { request: None, body: ReplyBody::Reloaded { changes } }, &mut out);
    assert!(matches!(refusal, Err(WireError::HeadTooLarge { .. })), "{refusal:?}");
    assert_eq!(out, b"before"[..]);
}

/// Integers of one encoded byte claim the most memory for their size.
#[test]
fn every_head_that_can_be_sent_can_be_read() {
    let changes = vec![String::new(); HEAD_BYTES_MAX - 16];
    let message = Reply { request: None, body: ReplyBody::Reloaded { changes } };
    let mut inbox = Inbox::default();
    fill(&mut inbox, &encoded(&message));
    assert_eq!(inbox.next_message(), Ok(Some(message)));
}

#[test]
fn fill_tells_what_a_read_brought() {
    let read_bytes = 64 * 1024;
    let mut inbox = Inbox::default();
    let mut stream = Script::new([
        Err(io::ErrorKind::Interrupted.into()),
        Ok(vec![0; 3]),
        Ok(vec![0; read_bytes]),
        Err(io::ErrorKind::WouldBlock.into()),
        Err(io::ErrorKind::ConnectionReset.into()),
        Ok(Vec::new()),
    ]);
    let mut next = || inbox.fill(&mut stream).map_err(|error| error.kind());
    assert_eq!(next(), Ok(Filled::Bytes { bytes: 3, full: false }), "an interrupted read is repeated");
    assert_eq!(next(), Ok(Filled::Bytes { bytes: read_bytes, full: true }));
    assert_eq!(next(), Ok(Filled::Nothing));
    assert_eq!(next(), Err(io::ErrorKind::ConnectionReset));
    assert_eq!(next(), Ok(Filled::End));
}

#[test]
fn receive_waits_for_a_whole_message_and_says_when_the_peer_closed() {
    let message = request(RequestBody::Status);
    let frame = encoded(&message);
    let (front, back) = frame.split_at(5);
    let reads = [front, back, front].map(|part| Ok(part.to_vec()));
    let mut stream = Script::new(reads);
    let mut inbox = Inbox::default();
    assert_eq!(inbox.receive::<Request>(&mut stream).ok(), Some(message));
    assert!(matches!(inbox.receive::<Request>(&mut stream), Err(ReceiveError::Closed)));
}

#[test]
fn receive_waits_no_longer_than_the_socket_lets_a_read_wait() {
    let (near, far) = UnixStream::pair().expect("a pair of sockets");
    near.set_read_timeout(Some(Duration::from_millis(1))).expect("it can be set");
    let (ended, receives) = mpsc::channel();
    thread::spawn(move || ended.send(Inbox::default().receive_from::<Request>(&near).is_err()));
    assert_eq!(receives.recv_timeout(Duration::from_secs(30)), Ok(true), "nothing came of it");
    drop(far);
}

#[test]
fn undisturbed_receive_gives_what_comes_later_and_says_when_the_peer_closed() {
    let (near, mut far) = UnixStream::pair().expect("a pair of sockets");
    let sent = Request { id: RequestId(1), body: RequestBody::Status };
    let bytes = encoded(&sent);
    let writer = thread::spawn(move || bytes.iter().try_for_each(|byte| far.write_all(&[*byte])));
    let mut inbox = Inbox::default();
    assert_eq!(inbox.receive_undisturbed::<Request>(&near).ok(), Some(sent));
    writer.join().expect("it ends").expect("it is read");
    let closed = inbox.receive_undisturbed::<Request>(&near);
    assert!(matches!(closed, Err(ReceiveError::Closed)), "{closed:?}");
}

#[test]
fn emptied_inbox_holds_little_memory_and_uses_it_again() {
    let small = encoded(&request(RequestBody::Status));
    let large = encoded(&finished(FRAME_BYTES_MAX / 2));
    // The thread's room for reading is allocated by its first read.
    fill(&mut Inbox::default(), &small);

    let mut inbox = Inbox::default();
    let held = measure(|| {
        fill(&mut inbox, &Hello::new(Role::Worker).encode());
        inbox.next_hello().expect("it is a hello");
        fill(&mut inbox, &large);
        inbox.next_message::<FromWorker>().expect("it is whole");
        fill(&mut inbox, &small);
        inbox.next_message::<Request>().expect("it is whole");
    });
    assert!(inbox.is_empty());
    assert!(held.bytes_current <= 256, "{} bytes", held.bytes_current);
    let again = measure(|| {
        for _ in 0..100 {
            fill(&mut inbox, &small);
            inbox.next_message::<Request>().expect("it is whole");
        }
    });
    assert_eq!(again.count_total, 0);
    assert!(size_of::<Inbox>() <= 96);
}

#[test]
fn announced_frame_costs_no_memory_before_its_bytes_arrive() {
    let mut inbox = Inbox::default();
    fill(&mut Inbox::default(), b"x");
    let announced = measure(|| {
        fill(&mut inbox, &header(HEAD_BYTES_MAX as u32, (FRAME_BYTES_MAX / 2) as u32));
        assert_eq!(inbox.next_message::<Request>(), Ok(None));
    });
    assert!(announced.bytes_max < 256, "{announced:?}");
}

#[test]
fn large_frame_in_small_pieces_is_not_copied_over_and_over() {
    let frame = encoded(&finished(FRAME_BYTES_MAX / 2));
    let mut inbox = Inbox::default();
    let taken = measure(|| {
        for piece in frame.chunks(512) {
            assert_eq!(inbox.next_message::<FromWorker>(), Ok(None));
            fill(&mut inbox, piece);
        }
        assert!(matches!(inbox.next_message::<FromWorker>(), Ok(Some(_))));
    });
    assert!(taken.bytes_total < 8 * frame.len() as u64, "{taken:?}");
}
