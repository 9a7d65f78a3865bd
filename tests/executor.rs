//! What executors do beyond Python's: calls that run are cancelled and limited in time, a crash costs one
//! call, and whatever dies, every future ends.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant, SystemTime};

use poold::CallErrorKind::{BadArguments, BadResult, Lost, Refused, TimedOut, Unreachable};
use poold::message::client::Refusal;
use poold::task::{CancelReason, Encoding, Payload};
use poold::{CallError, Executor, Future, ReturnWhen, as_completed, wait};
use rustix::process::{Signal, kill_process};
use serde_json::json;
use support::{Daemon, PATIENCE, pid, pidfd, wait_for_exit};

/// Longer than any test takes.
const LONG_SECONDS: u64 = 3600;

fn start(config: &str) -> (Daemon, Executor) {
    let daemon = Daemon::start(config);
    let executor = Executor::connect_to(&daemon.socket).unwrap();
    (daemon, executor)
}

fn start_with_faults(workers: u32) -> (Daemon, Executor) {
    start(&format!("allow_fault_injection = true\n[pool.cpu]\nworkers = {workers}\n"))
}

fn wait_until_running<T>(future: &Future<T>) {
    while !future.running() {
        assert!(!future.done(), "{future:?} ended instead");
        thread::yield_now();
    }
}

/// A number of the full size where `POOLD_TEST_FULL` is set, else a tenth of it.
fn scaled(full: usize) -> usize {
    if std::env::var_os("POOLD_TEST_FULL").is_some() { full } else { full / 10 }
}

// Beyond

#[test]
fn running_spin_cancelled_is_replaced_and_no_other_call_notices() {
    let (daemon, executor) = start_with_faults(2);
    let spin = executor.submit::<()>("spin", ()).unwrap();
    wait_until_running(&spin);
    let others: Vec<Future<()>> = (0..20).map(|_| executor.submit("sleep", 0.02).unwrap()).collect();
    let waiting = {
        let spin = spin.clone();
        thread::spawn(move || (spin.result(None).unwrap_err(), Instant::now()))
    };
    let asked = Instant::now();
    assert!(spin.cancel());
    let (error, told) = waiting.join().unwrap();
    println!("a running spin: cancelled for its caller after {:?}", told.duration_since(asked));
    assert_eq!(error.cancel_reason(), Some(CancelReason::Client));
    assert!(others.iter().all(|other| other.result(PATIENCE).is_ok()));
    while daemon.json(&["status"])["pools"][0]["ready"] != 2 {
        thread::yield_now();
    }
    assert_eq!(daemon.json(&["status"])["pools"][0]["restarts"], 1);
}

#[test]
fn spin_over_its_timeout_is_timed_out_and_its_process_ends() {
    let (daemon, executor) = start_with_faults(1);
    let worker = pidfd(daemon.worker_pids()[0]);
    let limit = Duration::from_millis(100);
    let spin = executor.with_timeout(limit).submit::<()>("spin", ()).unwrap();
    wait_until_running(&spin);
    let started = Instant::now();
    let error = spin.result(PATIENCE).unwrap_err();
    println!("a spin with a timeout of {limit:?}: answered after {:?}", started.elapsed());
    assert_eq!(error.kind(), TimedOut);
    assert!(error.is_timeout() && !error.is_not_done());
    wait_for_exit(&worker);
    println!("its process was gone after {:?}", started.elapsed());
}

#[test]
fn deadline_covers_the_wait_in_the_queue() {
    let (_daemon, executor) = start("[pool.cpu]\nworkers = 1\n");
    let running = executor.submit::<()>("sleep", LONG_SECONDS).unwrap();
    wait_until_running(&running);
    let hurried = executor.with_deadline(Duration::from_millis(50)).submit::<()>("sleep", 0).unwrap();
    let late = executor.with_deadline_at(SystemTime::UNIX_EPOCH).submit::<()>("sleep", 0).unwrap();
    assert!(hurried.result(PATIENCE).unwrap_err().is_timeout());
    assert!(late.result(PATIENCE).unwrap_err().is_timeout());
    running.cancel();
}

#[test]
fn options_are_those_of_the_handle_that_submits() {
    let (_daemon, executor) = start("[pool.cpu]\nworkers = 1\n[pool.other]\nworkers = 1\n");
    let running = executor.submit::<()>("sleep", LONG_SECONDS).unwrap();
    wait_until_running(&running);
    let low = executor.with_priority(-1).submit::<()>("sleep", 0.05).unwrap();
    let delayed = executor.with_priority(2).with_delay(Duration::from_millis(20));
    let delayed = delayed.submit::<()>("sleep", 0.05).unwrap();
    let high = executor.with_priority(1).submit::<()>("sleep", 0.05).unwrap();
    let elsewhere = executor.with_pool("other").unwrap().submit::<bool>("is_prime", 7).unwrap();
    assert!(elsewhere.result(PATIENCE).unwrap());
    running.cancel();
    let futures = [low.clone(), high, delayed];
    let order: Vec<_> = as_completed(futures, None).map(Result::unwrap).collect();
    assert_eq!(order[2], low, "the lowest priority comes last");
    assert!(executor.with_pool("no name").is_err());
}

#[test]
fn retries_repeat_what_crashed() {
    let (daemon, executor) = start_with_faults(1);
    let error = executor.with_retries(2).submit::<()>("crash", "7").unwrap().result(PATIENCE).unwrap_err();
    assert_eq!(error.exit(), Some(poold::task::Exit::Code(7)));
    assert_eq!(error.signal(), None);
    executor.shutdown(true, false);
    assert_eq!(daemon.json(&["workers"])[0]["restarts"], 3);
}

/// Kills one of two workers inside an attempt, with so many futures outstanding; exactly one fails.
#[test]
fn worker_killed_costs_one_of_many_outstanding_futures() {
    let (daemon, executor) = start("[pool.cpu]\nworkers = 2\n");
    let futures: Vec<Future<()>> =
        (0..scaled(1000)).map(|_| executor.submit("sleep", 0.02).unwrap()).collect();
    wait(futures.clone(), None, ReturnWhen::FirstCompleted);

    let victim = stop_inside_an_attempt(&daemon);
    kill_process(victim, Signal::KILL).unwrap();
    let failed: Vec<CallError> = futures.iter().filter_map(|future| future.result(PATIENCE).err()).collect();
    println!("{} outstanding futures, one worker killed: {} failed", futures.len(), failed.len());
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0].signal(), Some(9));
}

/// Stops a worker for good at an instant when it runs an attempt.
fn stop_inside_an_attempt(daemon: &Daemon) -> rustix::process::Pid {
    loop {
        let victim = daemon.worker_pids()[0];
        kill_process(victim, Signal::STOP).unwrap();
        // Whatever it had written before is taken in by the second answer at the latest.
        let rows = [daemon.workers(), daemon.workers()].map(|rows| rows[0].clone());
        if rows[0]["task"] == rows[1]["task"] && !rows[1]["running_ms"].is_null() {
            assert_eq!(pid(rows[1]["pid"].as_i64().unwrap()), victim);
            return victim;
        }
        kill_process(victim, Signal::CONT).unwrap();
    }
}

#[test]
fn futures_are_awaited_without_a_runtime() {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    fn block_on<T>(future: impl std::future::Future<Output = T>) -> T {
        let mut future = pin!(future);
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(output) => return output,
                Poll::Pending => thread::park(),
            }
        }
    }
    let (_daemon, executor) = start("");
    let future = executor.submit::<()>("sleep", 0.05).unwrap();
    let (first, second) = (future.clone(), future.clone());
    let other = thread::spawn(move || block_on(second));
    block_on(async move {
        first.await.unwrap();
        assert!(future.clone().await.is_ok(), "one that ended is there at once");
        assert!(executor.submit::<()>("fail", "x").unwrap().await.is_err());
    });
    assert!(other.join().unwrap().is_ok());
}

#[test]
fn thousand_outstanding_calls_of_many_threads_take_one_connection() {
    let (daemon, executor) = start("[pool.cpu]\nworkers = 1\n");
    // The futures are dropped at once, which cancels none of the calls.
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                for _ in 0..100 {
                    executor.submit::<()>("sleep", LONG_SECONDS).unwrap();
                }
            });
        }
    });
    // The last one is taken in once a call behind it is answered.
    let last = executor.with_pool("none").unwrap().submit::<()>("sleep", 0).unwrap();
    assert_eq!(last.result(PATIENCE).unwrap_err().kind(), Refused);
    let status = daemon.json(&["status"]);
    let tasks = &status["tasks"];
    assert_eq!(tasks["pending"].as_u64().unwrap() + tasks["running"].as_u64().unwrap(), 1000);
    assert_eq!(status["connections"], 2, "one of them is that of the command that asks");
    executor.cancel_all();
}

// Bad input

#[test]
fn arguments_of_wrong_types_fail_with_what_the_function_takes() {
    let (_daemon, executor) = start("");
    for args in [json!("banana"), json!([7, 8]), json!([]), json!(-1), json!(1.5), json!({})] {
        let error = executor.submit::<bool>("is_prime", &args).unwrap().result(PATIENCE).unwrap_err();
        assert_eq!(error.kind(), BadArguments, "{args}");
        let text = error.to_string();
        assert!(text.contains("is_prime takes") && text.lines().count() == 1, "{text}");
    }
    let keys = std::collections::BTreeMap::from([(vec![1], 2)]);
    assert_eq!(executor.submit::<()>("is_prime", keys).unwrap_err().kind(), BadArguments);
}

#[test]
fn unknown_function_is_refused_with_the_nearest_name() {
    let (_daemon, executor) = start("");
    let error = executor.submit::<bool>("is_primee", 7).unwrap().result(PATIENCE).unwrap_err();
    assert_eq!(error.kind(), Refused);
    assert!(matches!(error.refusal(), Some(Refusal::UnknownFunction { .. })));
    assert!(error.to_string().contains("did you mean `is_prime`?"), "{error}");
    assert_eq!(executor.submit::<bool>("is prime", 7).unwrap_err().kind(), Refused);
}

#[test]
fn result_of_another_type_is_an_error_of_its_own_kind() {
    let (_daemon, executor) = start("");
    let future = executor.submit::<u8>("is_prime", 7).unwrap();
    let error = future.result(PATIENCE).unwrap_err();
    assert_eq!(error.kind(), BadResult);
    assert!(error.to_string().contains("expected u8"), "{error}");
    assert_eq!(future.exception(None).unwrap().unwrap().kind(), BadResult);
}

#[test]
fn argument_over_the_cap_is_refused_and_the_executor_goes_on() {
    let (_daemon, executor) = start("[limits]\npayload_bytes = '1 MiB'\n");
    let args = Payload::new(Encoding::Bytes, vec![0; (1 << 20) + 1]);
    let error = executor.submit_payload("echo", args).unwrap_err();
    assert!(matches!(error.refusal(), Some(Refusal::PayloadTooLarge { bytes: 0x10_0001, .. })));
    let error = executor.submit::<()>("echo", "x".repeat(2_000_000)).unwrap_err();
    assert!(matches!(error.refusal(), Some(Refusal::PayloadTooLarge { .. })));
    assert!(executor.submit::<bool>("is_prime", 7).unwrap().result(PATIENCE).unwrap());
}

#[test]
fn payload_of_bytes_arrives_and_returns_as_it_is() {
    let (_daemon, executor) = start("");
    let args = Payload::new(Encoding::Bytes, b"\xff\0\n");
    assert_eq!(executor.submit_payload("echo", args.clone()).unwrap().result(PATIENCE).unwrap(), args);
}

#[test]
fn full_queue_is_an_error_of_submit_and_waited_for_by_map() {
    let (_daemon, executor) = start("[limits]\nqueue_tasks = 3\n[pool.cpu]\nworkers = 1\n");
    let futures: Vec<Future<()>> = (0..4).map(|_| executor.submit("sleep", LONG_SECONDS).unwrap()).collect();
    let error = futures[3].result(PATIENCE).unwrap_err();
    assert!(error.is_queue_full());
    assert_eq!(error.kind(), Refused);

    // Full of tasks of others, then of its own: a map waits for room.
    let mut results = executor.map::<[u64; 1], _>("echo", 0..100_u64).unwrap();
    thread::scope(|scope| {
        let results = scope.spawn(|| results.by_ref().map(|result| result.unwrap()[0]).eq(0..100));
        for future in &futures {
            future.cancel();
        }
        assert!(results.join().unwrap());
    });
}

#[test]
fn map_over_a_full_queue_goes_on_behind_a_slow_first_call() {
    let (daemon, executor) = start("[limits]\nqueue_tasks = 3\n[pool.cpu]\nworkers = 2\n");
    let mut seconds = vec![0; 10];
    seconds[0] = LONG_SECONDS;
    let mut results = executor.map::<(), _>("sleep", seconds).unwrap();
    thread::scope(|scope| {
        let first = scope.spawn(|| results.next());
        while daemon.json(&["status"])["outcomes"]["ok"] != 9 {
            thread::yield_now();
        }
        executor.cancel_all();
        assert!(first.join().unwrap().unwrap().unwrap_err().is_cancelled());
    });
    assert_eq!(results.map(Result::unwrap).count(), 9);
}

#[test]
fn map_over_a_full_queue_gives_each_of_many_results_once() {
    let (_daemon, executor) = start("[limits]\nqueue_tasks = 50\n[pool.cpu]\nworkers = 2\n");
    let results = executor.map::<[usize; 1], _>("echo", 0..5000_usize).unwrap();
    assert!(results.map(|result| result.unwrap()[0]).eq(0..5000));
}

#[test]
fn worker_that_dies_under_a_map_costs_the_calls_that_killed_it() {
    let (_daemon, executor) = start_with_faults(2);
    // One that is no way to crash is refused by its function, and the others kill theirs.
    let hows = |call: usize| if call % 10 == 5 { "abort" } else { "gently" };
    let results: Vec<_> = executor.map::<(), _>("crash", (0..60).map(hows)).unwrap().collect();
    assert_eq!(results.len(), 60);
    for (call, result) in results.into_iter().enumerate() {
        let error = result.unwrap_err();
        assert_eq!(error.is_crash(), hows(call) == "abort", "{call}: {error}");
        assert_eq!(error.kind() == BadArguments, hows(call) != "abort", "{call}: {error}");
    }
}

#[test]
fn daemon_that_dies_ends_every_call_as_lost_and_the_next_one_reconnects() {
    let (mut daemon, executor) = start("[pool.cpu]\nworkers = 2\n");
    let futures: Vec<Future<()>> =
        (0..1000).map(|_| executor.submit("sleep", LONG_SECONDS).unwrap()).collect();
    wait_until_running(&futures[1]);
    daemon.signal(Signal::KILL);
    for future in &futures {
        assert_eq!(future.result(PATIENCE).unwrap_err().kind(), Lost);
    }
    daemon.wait();
    let error = executor.submit::<()>("sleep", 0).unwrap_err();
    assert_eq!(error.kind(), Unreachable);
    assert!(error.to_string().contains("start `poold`"), "{error}");
    let results: Vec<_> = executor.map::<(), _>("sleep", [0, 0]).unwrap().collect();
    assert_eq!(results.len(), 1, "the first says why there are no more");

    let dir = std::mem::replace(&mut daemon.dir, tempfile::tempdir().unwrap());
    let mut daemon = Daemon::launch_in(dir, |_| {});
    daemon.wait_until_ready();
    assert!(executor.submit::<bool>("is_prime", 7).unwrap().result(PATIENCE).unwrap());
}

// Load

/// Every future ends once and every callback is called once, whatever is cancelled meanwhile.
#[test]
fn load_of_many_threads_ends_every_future_and_calls_every_callback_once() {
    let (daemon, executor) = start("[pool.cpu]\nworkers = 2\n");
    let (threads, calls) = (64, scaled(10_000));
    let begun = Instant::now();
    let counts = thread::scope(|scope| {
        let one_thread = |seed| {
            let executor = executor.clone();
            move || submit_and_cancel(&executor, seed, calls)
        };
        let threads: Vec<_> = (0..threads).map(|seed| scope.spawn(one_thread(seed))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let took = begun.elapsed();
    let (ok, cancelled) =
        counts.iter().fold((0, 0), |(ok, cancelled), count| (ok + count.0, cancelled + count.1));
    println!("{} calls in {took:?}: {ok} ok, {cancelled} cancelled", threads as usize * calls);
    assert_eq!(ok + cancelled, threads as usize * calls);
    executor.shutdown(true, false);
    let outcomes = &daemon.json(&["status"])["outcomes"];
    let ended = |kind: &str| outcomes[kind].as_u64().unwrap_or(0) as usize;
    assert_eq!(ended("ok") + ended("cancelled"), ok + cancelled, "{outcomes}");
}

/// One thread's calls: how many ended well, and how many were cancelled.
fn submit_and_cancel(executor: &Executor, seed: u64, calls: usize) -> (usize, usize) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut futures: Vec<(Future<bool>, Arc<AtomicU32>)> = Vec::with_capacity(calls);
    for number in 0..calls {
        let future = executor.submit("is_prime", number).unwrap();
        let called = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&called);
        future.add_done_callback(move |future| {
            assert!(future.done());
            count.fetch_add(1, Ordering::Relaxed);
        });
        futures.push((future, called));
        if random.u32(..100) < 5 {
            futures[random.usize(..futures.len())].0.cancel();
        }
    }
    let mut counts = (0, 0);
    for (number, (future, _)) in futures.iter().enumerate() {
        match future.result(PATIENCE * 10) {
            Ok(is_prime) => {
                assert!(!is_prime || number < 3 || number % 2 == 1);
                counts.0 += 1;
            }
            Err(error) => {
                assert!(error.is_cancelled() && future.cancelled(), "{error}");
                counts.1 += 1;
            }
        }
    }
    // A callback that is added last is called last.
    for (future, called) in &futures {
        let (tell, told) = std::sync::mpsc::channel();
        future.add_done_callback(move |_| tell.send(()).unwrap());
        told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(called.load(Ordering::Relaxed), 1);
    }
    counts
}
