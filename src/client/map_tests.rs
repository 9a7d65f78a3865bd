//! Maps and futures against a daemon that says what the test has it say.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::call_error::CallErrorKind::{BadResult, Cancelled, Lost};
use super::{CallError, Connection, Executor, Future, Map, MapOptions};
use crate::id::{Epoch, Pid, RequestId, TaskId};
use crate::message::client::{CancelAnswer, Refusal, Reply, ReplyBody, Request, RequestBody, Welcome};
use crate::task::{Encoding, Outcome, Payload, PayloadsMut};
use crate::wire::{Answer, HANDSHAKE_BYTES, Inbox, Outbox, Verdict};

/// Longer than anything takes that comes at all.
const PATIENCE: Duration = Duration::from_secs(30);

/// The daemon's end of a connection.
struct Peer {
    stream: UnixStream,
    inbox: Inbox,
    /// Requests that came with others, each submission by itself.
    came: VecDeque<Request>,
}

impl Peer {
    fn start() -> (Executor, Peer) {
        let (near, far) = UnixStream::pair().unwrap();
        far.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut peer = Peer { stream: far, inbox: Inbox::default(), came: VecDeque::new() };
        let answer = Answer { verdict: Verdict::Accepted, version: 1 };
        peer.stream.write_all(&answer.encode()).unwrap();
        let welcome =
            Welcome { version: "1".to_owned(), pid: Pid(1), epoch: Epoch(7), payload_bytes_max: 1024 };
        peer.send(&Reply { request: None, body: ReplyBody::Welcome(welcome) });
        let connection = Connection::over_socket(near.into(), Path::new("the test's socket")).unwrap();
        peer.stream.read_exact(&mut [0; HANDSHAKE_BYTES]).unwrap();
        (Executor::over(connection), peer)
    }

    fn send(&self, reply: &Reply) {
        let mut outbox = Outbox::default();
        outbox.push(reply).unwrap();
        outbox.send_all(&self.stream).unwrap();
    }

    fn say(&self, request: RequestId, body: ReplyBody) {
        self.send(&Reply { request: Some(request), body });
    }

    /// Says that so many were accepted, as tasks that count on from 1.
    fn accept(&self, first: RequestId, count: u32) {
        self.say(first, ReplyBody::AllAccepted { first: task(1), count });
    }

    /// Says that the tasks of these numbers ended with them as results, the first as the end of that request.
    fn finish(&self, first: RequestId, numbers: Range<u64>) {
        let mut results = PayloadsMut::default();
        numbers.clone().for_each(|number| results.push(Encoding::Json, number.to_string().as_bytes()));
        self.say(first, ReplyBody::AllDone { first: task(numbers.start), results: results.take() });
    }

    fn refuse(&self, request: RequestId) {
        self.say(request, ReplyBody::Refused(Refusal::QueueFull { tasks_max: 2 }));
    }

    fn next(&mut self) -> Request {
        if let Some(request) = self.came.pop_front() {
            return request;
        }
        let request: Request = self.inbox.receive_from(&self.stream).unwrap();
        match request.body {
            RequestBody::SubmitAll { spec, args } => {
                let each = (0..).zip(args.each()).map(|(number, args)| {
                    let body = RequestBody::Submit { spec: spec.clone(), args };
                    Request { id: request.id.plus(number), body }
                });
                self.came.extend(each);
                self.came.pop_front().unwrap()
            }
            body => Request { id: request.id, body },
        }
    }

    /// The numbers of the next requests, which submit so many tasks.
    fn submitted(&mut self, count: usize) -> Vec<RequestId> {
        let request = |request: Request| match request.body {
            RequestBody::Submit { .. } => request.id,
            other => panic!("{other:?}"),
        };
        (0..count).map(|_| request(self.next())).collect()
    }

    /// The tasks that the next requests, which are so many, are to cancel; says that they had ended before.
    fn cancelled(&mut self, count: usize) -> Vec<TaskId> {
        let mut tasks = Vec::new();
        for _ in 0..count {
            let request = self.next();
            let RequestBody::Cancel { task } = request.body else { panic!("{request:?}") };
            self.say(request.id, ReplyBody::CancelAnswered { task, answer: CancelAnswer::AlreadyDone });
            tasks.push(task);
        }
        tasks
    }

    /// Returns when all that was said before has been taken in.
    fn settle(&mut self, executor: &Executor) {
        let future: Future<u64> = executor.submit("settle", ()).unwrap();
        let request = self.submitted(1)[0];
        self.say(request, ReplyBody::Accepted { task: task(1000) });
        let outcome = Outcome::Ok(Payload::new(Encoding::Json, "7"));
        self.say(request, ReplyBody::Done { task: task(1000), outcome });
        assert_eq!(future.result(PATIENCE).unwrap(), 7);
    }
}

fn task(number: u64) -> TaskId {
    TaskId { epoch: Epoch(7), number }
}

fn tasks(numbers: Range<u64>) -> Vec<TaskId> {
    numbers.map(task).collect()
}

/// A map of so many inputs that were submitted, and the number of the first request.
fn map(executor: &Executor, peer: &mut Peer, inputs: usize) -> (Map<u64, Range<usize>>, RequestId) {
    let map = executor.map("echo", 0..inputs).unwrap();
    let requests = peer.submitted(inputs);
    assert!(requests.windows(2).all(|two| two[1] == two[0].plus(1)), "{requests:?}");
    (map, requests[0])
}

fn is_cancelled(result: &Result<u64, CallError>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == Cancelled)
}

#[test]
fn results_that_come_together_in_any_order_are_given_in_the_order_of_the_inputs() {
    let (executor, mut peer) = Peer::start();
    let (map, first) = map(&executor, &mut peer, 6);
    peer.accept(first, 6);
    peer.finish(first.plus(4), 5..7);
    peer.finish(first.plus(1), 2..5);
    peer.finish(first, 1..2);
    assert!(map.map(Result::unwrap).eq(1..7));
}

#[test]
fn result_of_another_type_among_others_is_an_error_that_names_its_task() {
    let (executor, mut peer) = Peer::start();
    let (map, first) = map(&executor, &mut peer, 3);
    peer.accept(first, 3);
    let mut results = PayloadsMut::default();
    ["1", "true", "3"].iter().for_each(|text| results.push(Encoding::Json, text.as_bytes()));
    peer.say(first, ReplyBody::AllDone { first: task(1), results: results.take() });
    let results: Vec<_> = map.collect();
    assert_eq!((*results[0].as_ref().unwrap(), *results[2].as_ref().unwrap()), (1, 3));
    let error = results[1].as_ref().unwrap_err();
    assert_eq!((error.kind(), error.task()), (BadResult, Some(task(2))));
}

#[test]
fn input_leaves_while_the_next_one_is_not_there() {
    let (executor, mut peer) = Peer::start();
    let (give, inputs) = mpsc::channel::<u64>();
    let mapping = thread::spawn(move || {
        let results = executor.map::<u64, _>("echo", inputs).unwrap();
        results.map(Result::unwrap).collect::<Vec<u64>>()
    });
    give.send(1).unwrap();
    let first = peer.submitted(1)[0];
    give.send(2).unwrap();
    assert_eq!(peer.submitted(1), [first.plus(1)]);
    drop(give);
    peer.accept(first, 2);
    peer.finish(first, 1..3);
    assert_eq!(mapping.join().unwrap(), [1, 2]);
}

#[test]
fn calls_refused_in_the_middle_of_others_are_submitted_again_when_some_have_ended() {
    let (executor, mut peer) = Peer::start();
    let (mut map, first) = map(&executor, &mut peer, 6);
    peer.accept(first, 2);
    peer.refuse(first.plus(2));
    peer.refuse(first.plus(3));
    peer.say(first.plus(4), ReplyBody::AllAccepted { first: task(5), count: 2 });
    peer.finish(first, 1..3);
    assert_eq!(map.by_ref().take(2).map(Result::unwrap).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(peer.submitted(2), [first.plus(2), first.plus(3)]);
    peer.say(first.plus(2), ReplyBody::AllAccepted { first: task(7), count: 2 });
    peer.finish(first.plus(4), 5..7);
    peer.finish(first.plus(2), 7..9);
    assert_eq!(map.map(Result::unwrap).collect::<Vec<_>>(), [7, 8, 5, 6]);
}

#[test]
fn calls_cancelled_before_they_are_accepted_are_ended_once_they_are() {
    let (executor, mut peer) = Peer::start();
    let (map, first) = map(&executor, &mut peer, 4);
    executor.cancel_all();
    assert_eq!(map.filter(is_cancelled).count(), 4);
    peer.accept(first, 4);
    assert_eq!(peer.cancelled(4), tasks(1..5));
    peer.finish(first, 1..5);
    peer.settle(&executor);
}

#[test]
fn calls_cancelled_while_their_results_are_on_the_way_stay_cancelled() {
    let (executor, mut peer) = Peer::start();
    let options = MapOptions::new().buffer_size(3);
    let mut map = executor.map_with::<u64, _>("echo", 0..4, options).unwrap();
    let first = peer.submitted(3)[0];
    peer.accept(first, 3);
    peer.settle(&executor);
    executor.cancel_all();
    assert_eq!(peer.cancelled(3), tasks(1..4));
    // What was cancelled makes room for the last input, and is answered together with it.
    assert!(is_cancelled(&map.next().unwrap()));
    assert_eq!(peer.submitted(1), [first.plus(3)]);
    peer.say(first.plus(3), ReplyBody::Accepted { task: task(4) });
    peer.finish(first, 1..5);
    let rest: Vec<_> = map.collect();
    assert!(is_cancelled(&rest[0]) && is_cancelled(&rest[1]));
    assert_eq!(*rest[2].as_ref().unwrap(), 4);
    peer.settle(&executor);
}

#[test]
fn map_dropped_cancels_what_has_not_ended_and_nothing_else() {
    let (executor, mut peer) = Peer::start();
    let (mut map, first) = map(&executor, &mut peer, 5);
    peer.accept(first, 4);
    peer.finish(first, 1..3);
    peer.settle(&executor);
    assert_eq!(map.next().unwrap().unwrap(), 1);
    drop(map);
    assert_eq!(peer.cancelled(2), tasks(3..5));
    peer.say(first.plus(4), ReplyBody::Accepted { task: task(5) });
    assert_eq!(peer.cancelled(1), tasks(5..6));
    peer.finish(first.plus(2), 3..6);
    // Then nothing is left that the executor would wait for.
    executor.shutdown(true, false);
}

#[test]
fn shutdown_cancelling_futures_leaves_the_call_of_a_map_that_runs() {
    let (executor, mut peer) = Peer::start();
    let (map, first) = map(&executor, &mut peer, 3);
    peer.accept(first, 3);
    peer.say(first.plus(1), ReplyBody::Started { task: task(2) });
    peer.settle(&executor);
    executor.shutdown(false, true);
    assert_eq!(peer.cancelled(2), [task(1), task(3)]);
    peer.finish(first, 1..4);
    let results: Vec<_> = map.collect();
    assert!(is_cancelled(&results[0]) && is_cancelled(&results[2]));
    assert_eq!(*results[1].as_ref().unwrap(), 2);
}

#[test]
fn connection_lost_ends_the_calls_of_a_map_in_their_places() {
    let (executor, mut peer) = Peer::start();
    let (map, first) = map(&executor, &mut peer, 4);
    peer.accept(first, 3);
    peer.finish(first.plus(1), 2..3);
    peer.settle(&executor);
    drop(peer);
    let results: Vec<_> = map.collect();
    assert_eq!(*results[1].as_ref().unwrap(), 2);
    let lost = [0, 2, 3].map(|place: usize| results[place].as_ref().unwrap_err());
    assert!(lost.iter().all(|error| error.kind() == Lost));
    assert_eq!(lost.map(CallError::task), [Some(task(1)), Some(task(3)), None]);
}

#[test]
fn reply_to_a_call_that_is_none_ends_the_connection() {
    let (executor, mut peer) = Peer::start();
    let (map, first) = map(&executor, &mut peer, 2);
    peer.finish(first.plus(1), 2..4);
    assert!(map.map(Result::unwrap_err).all(|error| error.kind() == Lost));
}

#[test]
fn future_cancelled_in_the_middle_of_others_costs_them_nothing() {
    let (executor, mut peer) = Peer::start();
    let futures: Vec<Future<u64>> = (0..4).map(|number| executor.submit("echo", number).unwrap()).collect();
    let first = peer.submitted(4)[0];
    peer.accept(first, 4);
    peer.settle(&executor);
    assert_eq!(futures[3].task(), Some(task(4)));
    assert!(futures[1].cancel());
    assert_eq!(peer.cancelled(1), [task(2)]);
    peer.finish(first, 1..5);
    let results: Vec<_> = futures.iter().map(|future| future.result(PATIENCE)).collect();
    assert!(is_cancelled(&results[1]));
    assert_eq!([0, 2, 3].map(|place: usize| *results[place].as_ref().unwrap()), [1, 3, 4]);
}
