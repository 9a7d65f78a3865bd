//! What the documentation of Python's `concurrent.futures` (3.14) says of executors and futures, held to
//! line by line; `docs/CONCURRENT_FUTURES.md` names the test for each line.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;
#[path = "support/table.rs"]
mod table;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use poold::CallErrorKind::{BadArguments, Cancelled, Failed, NotDone, ShutDown};
use poold::ReturnWhen::{AllCompleted, FirstCompleted, FirstException};
use poold::{Executor, Future, MapOptions, as_completed, wait};
use serde_json::json;
use support::{Daemon, PATIENCE};

/// Longer than any test takes.
const LONG_SECONDS: u64 = 3600;

const SHORT: Duration = Duration::from_millis(20);

/// A daemon with so many workers, and an executor over it.
fn start(workers: u32) -> (Daemon, Executor) {
    let daemon = Daemon::start(&format!("allow_fault_injection = true\n[pool.cpu]\nworkers = {workers}\n"));
    let executor = Executor::connect_to(&daemon.socket).unwrap();
    (daemon, executor)
}

/// A call that goes on until it is cancelled.
fn long(executor: &Executor) -> Future<()> {
    executor.submit("sleep", LONG_SECONDS).unwrap()
}

/// A call that has ended well.
fn ended(executor: &Executor) -> Future<()> {
    let future = executor.submit("sleep", 0).unwrap();
    future.result(PATIENCE).unwrap();
    future
}

fn wait_until_running<T>(future: &Future<T>) {
    while !future.running() {
        assert!(!future.done(), "{future:?} ended instead");
        std::thread::yield_now();
    }
}

// Executor.submit

#[test]
fn submit_returns_a_future_while_the_call_goes_on() {
    let (_daemon, executor) = start(1);
    let future = long(&executor);
    assert!(!future.done());
    wait_until_running(&future);
    executor.cancel_all();
}

#[test]
fn submit_passes_its_arguments() {
    let (_daemon, executor) = start(1);
    let future = executor.submit::<(u128, String)>("echo", (u128::MAX, "a b")).unwrap();
    assert_eq!(future.result(PATIENCE).unwrap(), (u128::MAX, "a b".to_owned()));
}

// Executor.map

#[test]
fn map_yields_in_input_order_though_later_calls_end_first() {
    let (_daemon, executor) = start(2);
    let numbers = [115797848077099_u64, 4, 5, 6];
    let results = executor.map::<bool, _>("is_prime_trial", numbers).unwrap();
    assert_eq!(results.map(Result::unwrap).collect::<Vec<_>>(), [true, false, true, false]);
}

#[test]
fn map_runs_several_calls_at_a_time() {
    let (daemon, executor) = start(2);
    let results = executor.map::<(), _>("sleep", [LONG_SECONDS, LONG_SECONDS]).unwrap();
    while daemon.json(&["status"])["pools"][0]["busy"] != 2 {
        std::thread::yield_now();
    }
    drop(results);
}

#[test]
fn map_takes_tuples_for_functions_of_several_arguments() {
    let (_daemon, executor) = start(1);
    let pairs = [1, 2].into_iter().zip(["a", "b"]);
    let results = executor.map::<(u8, String), _>("echo", pairs).unwrap();
    let results: Vec<_> = results.map(Result::unwrap).collect();
    assert_eq!(results, [(1, "a".to_owned()), (2, "b".to_owned())]);
}

#[test]
fn map_timeout_counts_from_the_call_and_ends_the_results() {
    let (daemon, executor) = start(2);
    let options = MapOptions::new().timeout(Duration::from_secs(1));
    let mut results = executor.map_with::<(), _>("sleep", [0, LONG_SECONDS, 0], options).unwrap();
    assert!(results.next().unwrap().is_ok());
    assert_eq!(results.next().unwrap().unwrap_err().kind(), NotDone);
    assert!(results.next().is_none());
    executor.shutdown(true, false);
    assert_eq!(daemon.json(&["status"])["outcomes"]["cancelled"], 1, "nothing goes on for nobody");
}

#[test]
fn map_error_is_told_in_its_place_and_the_others_have_results() {
    let (_daemon, executor) = start(2);
    let inputs = [json!(7), json!("banana"), json!(8)];
    let results: Vec<_> = executor.map::<bool, _>("is_prime", inputs).unwrap().collect();
    assert!(matches!(results[0], Ok(true)));
    assert_eq!(results[1].as_ref().unwrap_err().kind(), BadArguments);
    assert!(matches!(results[2], Ok(false)));
}

#[test]
fn map_in_chunks_has_the_same_results() {
    let (_daemon, executor) = start(2);
    let options = MapOptions::new().chunk_size(7).buffer_size(20);
    let results = executor.map_with::<[u64; 1], _>("echo", 0..100_u64, options).unwrap();
    assert!(results.map(|result| result.unwrap()[0]).eq(0..100));
}

#[test]
fn map_buffer_bounds_how_far_inputs_are_pulled() {
    let (_daemon, executor) = start(2);
    let pulled = AtomicUsize::new(0);
    let endless = (0_u64..).inspect(|_| {
        pulled.fetch_add(1, Ordering::Relaxed);
    });
    let mut results =
        executor.map_with::<[u64; 1], _>("echo", endless, MapOptions::new().buffer_size(10)).unwrap();
    assert_eq!(pulled.load(Ordering::Relaxed), 10, "the window is filled at once");
    for given_out in 1..50 {
        results.next().unwrap().unwrap();
        assert_eq!(pulled.load(Ordering::Relaxed), given_out + 10);
    }
}

#[test]
fn map_dropped_cancels_what_has_not_ended() {
    let (daemon, executor) = start(1);
    drop(executor.map::<(), _>("sleep", [LONG_SECONDS; 10]).unwrap());
    executor.shutdown(true, false);
    assert_eq!(daemon.json(&["status"])["outcomes"]["cancelled"], 10);
}

// Executor.shutdown, with

#[test]
fn submit_and_map_after_shutdown_are_errors() {
    let (_daemon, executor) = start(1);
    let clone = executor.clone();
    executor.shutdown(true, false);
    executor.shutdown(true, false);
    for executor in [executor, clone] {
        assert_eq!(executor.submit::<()>("sleep", 0).unwrap_err().kind(), ShutDown);
        assert_eq!(executor.map::<(), _>("sleep", [0]).unwrap_err().kind(), ShutDown);
    }
}

#[test]
fn shutdown_waits_for_calls_and_their_callbacks() {
    let (_daemon, executor) = start(1);
    let called = Arc::new(AtomicUsize::new(0));
    let futures: Vec<Future<()>> = (0..10).map(|_| executor.submit("sleep", 0.01).unwrap()).collect();
    for future in &futures {
        let called = Arc::clone(&called);
        future.add_done_callback(move |_| {
            called.fetch_add(1, Ordering::Relaxed);
        });
    }
    executor.shutdown(true, false);
    assert!(futures.iter().all(Future::done));
    assert_eq!(called.load(Ordering::Relaxed), 10);
    assert!(futures.iter().all(|future| future.result(Duration::ZERO).is_ok()));
}

#[test]
fn shutdown_without_waiting_returns_and_the_calls_go_on() {
    let (_daemon, executor) = start(1);
    let first = long(&executor);
    let second = executor.submit::<()>("sleep", 0).unwrap();
    executor.shutdown(false, false);
    drop(executor);
    assert!(!first.done() && !second.done());
    first.cancel();
    assert!(second.result(PATIENCE).is_ok());
}

#[test]
fn shutdown_cancelling_futures_leaves_what_runs() {
    let (_daemon, executor) = start(1);
    let (tell, told) = channel();
    let running = executor.submit::<()>("sleep", 1).unwrap();
    wait_until_running(&running);
    let pending: Vec<_> = (0..5).map(|_| long(&executor)).collect();
    pending[4].add_done_callback(move |_| tell.send(()).unwrap());
    executor.shutdown(true, true);
    assert!(running.result(Duration::ZERO).is_ok());
    assert!(pending.iter().all(Future::cancelled));
    told.try_recv().unwrap();
}

#[test]
fn executor_dropped_waits_for_its_calls() {
    let (_daemon, executor) = start(1);
    let other_handle = executor.with_priority(1);
    let future = other_handle.submit::<()>("sleep", 0.2).unwrap();
    drop(executor);
    drop(other_handle);
    assert!(future.done());
    assert!(future.result(Duration::ZERO).is_ok());
}

#[test]
fn executor_dropped_by_a_callback_does_not_wait_for_itself() {
    let (_daemon, executor) = start(1);
    let future = executor.submit::<()>("sleep", 0.05).unwrap();
    let (tell, told) = channel();
    future.add_done_callback(move |_| {
        drop(executor);
        tell.send(()).unwrap();
    });
    told.recv_timeout(PATIENCE).unwrap();
}

// ProcessPoolExecutor

#[test]
fn worker_that_dies_fails_its_call_and_no_other() {
    let (_daemon, executor) = start(2);
    let futures: Vec<Future<()>> = (0..20).map(|_| executor.submit("sleep", 0.01).unwrap()).collect();
    let crash = executor.submit::<()>("crash", "abort").unwrap();
    let after: Vec<Future<()>> = (0..20).map(|_| executor.submit("sleep", 0.01).unwrap()).collect();
    let error = crash.result(PATIENCE).unwrap_err();
    assert!(error.is_crash());
    assert_eq!(error.signal(), Some(6));
    for future in futures.into_iter().chain(after) {
        future.result(PATIENCE).unwrap();
    }
    assert!(ended(&executor).done(), "the executor goes on");
}

#[test]
fn cancel_all_ends_what_runs_and_what_waits() {
    let (daemon, executor) = start(1);
    let spin = executor.submit::<()>("spin", ()).unwrap();
    wait_until_running(&spin);
    let pending = long(&executor);
    executor.cancel_all();
    assert!(spin.cancelled() && pending.cancelled());
    ended(&executor);
    assert_eq!(daemon.json(&["status"])["pools"][0]["restarts"], 1, "its process was ended");
}

// Future

#[test]
fn cancel_ends_a_pending_call_that_never_runs() {
    let (daemon, executor) = start(1);
    let running = long(&executor);
    wait_until_running(&running);
    let pending = long(&executor);
    // The end of a call that is on its way is asked for once it is accepted, and by then the other one may be over.
    while daemon.json(&["status"])["pools"][0]["pending"] != 1 {
        std::thread::yield_now();
    }
    assert!(pending.cancel());
    assert!(pending.cancelled() && pending.done() && !pending.running());
    assert!(!running.done());
    running.cancel();
    executor.shutdown(true, false);
    assert_eq!(daemon.json(&["status"])["pools"][0]["restarts"], 1, "only one had begun");
}

#[test]
fn cancel_ends_a_running_call() {
    let (_daemon, executor) = start(1);
    let running = long(&executor);
    wait_until_running(&running);
    assert!(running.cancel());
    assert!(running.cancelled() && running.done() && !running.running());
    ended(&executor);
}

#[test]
fn cancel_of_a_cancelled_call_is_true_and_of_one_that_ended_false() {
    let (_daemon, executor) = start(1);
    let future = long(&executor);
    assert!(future.cancel());
    assert!(future.cancel());
    let future = ended(&executor);
    assert!(!future.cancel());
    assert!(!future.cancelled());
    assert!(future.result(None).is_ok());
}

#[test]
fn running_and_done_follow_the_call() {
    let (_daemon, executor) = start(1);
    let first = long(&executor);
    let second = long(&executor);
    wait_until_running(&first);
    assert!(!second.running() && !second.done());
    first.cancel();
    wait_until_running(&second);
    second.cancel();
    assert!(second.done() && !second.running());
}

#[test]
fn result_is_what_the_function_returned_and_can_be_asked_for_again() {
    let (_daemon, executor) = start(1);
    let future = executor.submit::<bool>("is_prime", 7).unwrap();
    assert!(future.result(PATIENCE).unwrap());
    assert!(future.clone().result(None).unwrap());
    assert!(!executor.submit::<bool>("is_prime", 8).unwrap().result(None).unwrap());
}

#[test]
fn result_that_does_not_come_in_time_is_not_done_and_the_call_goes_on() {
    let (_daemon, executor) = start(1);
    let future = executor.submit::<()>("sleep", 0.5).unwrap();
    let error = future.result(SHORT).unwrap_err();
    assert!(error.is_not_done() && !error.is_timeout() && !error.is_cancelled());
    assert!(!future.done());
    assert!(future.result(PATIENCE).is_ok());
}

#[test]
fn result_of_a_cancelled_call_is_an_error() {
    let (_daemon, executor) = start(1);
    let future = long(&executor);
    let waiting = {
        let future = future.clone();
        std::thread::spawn(move || future.result(None))
    };
    future.cancel();
    assert_eq!(waiting.join().unwrap().unwrap_err().kind(), Cancelled);
    assert_eq!(future.result(None).unwrap_err().kind(), Cancelled);
}

#[test]
fn result_of_a_failed_call_is_its_error_each_time() {
    let (_daemon, executor) = start(1);
    let future = executor.submit::<()>("fail", "its words").unwrap();
    for _ in 0..2 {
        let error = future.result(PATIENCE).unwrap_err();
        assert_eq!(error.kind(), Failed);
        assert_eq!(error.message(), Some("its words"));
    }
}

#[test]
fn exception_is_the_error_or_nothing() {
    let (_daemon, executor) = start(1);
    assert!(ended(&executor).exception(None).unwrap().is_none());
    let failed = executor.submit::<()>("fail", "its words").unwrap();
    assert_eq!(failed.exception(PATIENCE).unwrap().unwrap().message(), Some("its words"));

    let future = long(&executor);
    assert_eq!(future.exception(SHORT).unwrap_err().kind(), NotDone);
    future.cancel();
    assert_eq!(future.exception(None).unwrap_err().kind(), Cancelled);
}

#[test]
fn callbacks_are_called_once_with_the_future_in_the_order_of_adding() {
    let (_daemon, executor) = start(1);
    let future = executor.submit::<bool>("is_prime", 7).unwrap();
    let (tell, told) = channel();
    for number in 0..100 {
        let (tell, same) = (tell.clone(), future.clone());
        future.add_done_callback(move |future| {
            assert!(*future == same && future.result(None).unwrap());
            tell.send(number).unwrap();
        });
    }
    executor.shutdown(true, false);
    drop(tell);
    assert!(told.iter().eq(0..100));
}

#[test]
fn callback_added_to_a_call_that_ended_is_called_at_once() {
    let (_daemon, executor) = start(1);
    let future = ended(&executor);
    future.add_done_callback(|_| {});
    let called = Arc::new(Mutex::new(false));
    let tell = Arc::clone(&called);
    future.add_done_callback(move |_| *tell.lock().unwrap() = true);
    assert!(*called.lock().unwrap());
}

#[test]
fn callback_of_a_cancelled_call_is_called() {
    let (_daemon, executor) = start(1);
    let future = long(&executor);
    let (tell, told) = channel();
    future.add_done_callback(move |future| tell.send(future.cancelled()).unwrap());
    future.cancel();
    assert!(told.recv_timeout(PATIENCE).unwrap());
}

#[test]
fn callback_that_panics_is_logged_and_harms_no_other() {
    let messages = capture_log();
    let (_daemon, executor) = start(1);
    let future = long(&executor);
    let (tell, told) = channel();
    future.add_done_callback(|_| panic!("on purpose"));
    future.add_done_callback(move |_| tell.send(()).unwrap());
    future.cancel();
    told.recv_timeout(PATIENCE).unwrap();
    future.add_done_callback(|_| panic!("on purpose, too"));
    for panicked in ["a callback panicked: on purpose", "a callback panicked: on purpose, too"] {
        assert_eq!(messages.recv_timeout(PATIENCE).unwrap(), panicked);
    }
    ended(&executor);
}

/// What this process logs as errors from here on.
fn capture_log() -> mpsc::Receiver<String> {
    struct Capture(Mutex<mpsc::Sender<String>>);
    impl log::Log for Capture {
        fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
            metadata.level() == log::Level::Error
        }
        fn log(&self, record: &log::Record<'_>) {
            if self.enabled(record.metadata()) {
                let _ = self.0.lock().unwrap().send(record.args().to_string());
            }
        }
        fn flush(&self) {}
    }
    let (sender, receiver) = channel();
    log::set_boxed_logger(Box::new(Capture(Mutex::new(sender)))).unwrap();
    log::set_max_level(log::LevelFilter::Error);
    receiver
}

#[test]
fn callback_may_wait_for_another_call_and_submit() {
    let (_daemon, executor) = start(1);
    let (tell, told) = channel();
    let first = executor.submit::<()>("sleep", 0.01).unwrap();
    let second = executor.submit::<bool>("is_prime", 7).unwrap();
    let again = executor.clone();
    first.add_done_callback(move |_| {
        let third = again.submit::<bool>("is_prime", 8).unwrap();
        tell.send((second.result(None).unwrap(), third.result(None).unwrap())).unwrap();
    });
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), (true, false));
}

// wait

#[test]
fn wait_returns_when_all_have_ended_however() {
    let (_daemon, executor) = start(2);
    let cancelled = long(&executor);
    cancelled.cancel();
    let futures = [cancelled, executor.submit("fail", "x").unwrap(), executor.submit("sleep", 0.05).unwrap()];
    let waited = wait(futures.clone(), None, AllCompleted);
    assert_eq!(waited.done, futures);
    assert!(waited.not_done.is_empty());
}

#[test]
fn wait_returns_at_the_first_end() {
    let (_daemon, executor) = start(2);
    let (first, second) = (long(&executor), executor.submit("sleep", 0.01).unwrap());
    let waited = wait([first.clone(), second.clone()], None, FirstCompleted);
    assert_eq!((waited.done, waited.not_done), (vec![second], vec![first.clone()]));
    first.cancel();
}

#[test]
fn wait_for_an_exception_passes_over_results_and_cancelled_calls() {
    let (_daemon, executor) = start(1);
    let cancelled = long(&executor);
    cancelled.cancel();
    let well = ended(&executor);
    let failing = executor.submit("fail", "x").unwrap();
    let waiting = long(&executor);
    let futures = [cancelled.clone(), well.clone(), failing.clone(), waiting.clone()];
    let waited = wait(futures, None, FirstException);
    assert_eq!(waited.done, [cancelled.clone(), well.clone(), failing]);
    assert_eq!(waited.not_done, [waiting]);
    executor.cancel_all();

    let waited = wait([cancelled, well], None, FirstException);
    assert_eq!(waited.done.len(), 2, "without an exception it is as AllCompleted");
}

#[test]
fn wait_gives_up_after_its_timeout() {
    let (_daemon, executor) = start(2);
    let (first, second) = (ended(&executor), long(&executor));
    let waited = wait([first.clone(), second.clone()], SHORT, AllCompleted);
    assert_eq!((waited.done, waited.not_done), (vec![first], vec![second.clone()]));
    second.cancel();
}

#[test]
fn wait_takes_duplicates_once_and_futures_of_several_executors() {
    let (_daemon, executor) = start(1);
    let (_other_daemon, other_executor) = start(1);
    let (here, there) = (ended(&executor), short(&other_executor));
    let waited = wait([here.clone(), there.clone(), here.clone()], None, AllCompleted);
    assert_eq!(waited.done, [here, there]);
    assert!(wait(Vec::<Future<()>>::new(), None, FirstCompleted).done.is_empty());
}

fn short(executor: &Executor) -> Future<()> {
    executor.submit("sleep", 0.01).unwrap()
}

// as_completed

#[test]
fn as_completed_yields_as_they_end_and_those_first_that_had() {
    let (_daemon, executor) = start(2);
    let slow = executor.submit::<()>("sleep", 0.5).unwrap();
    let quick = executor.submit::<()>("sleep", 0.1).unwrap();
    let before = long(&executor);
    before.cancel();
    let futures = [slow.clone(), quick.clone(), before.clone(), quick.clone()];
    let order: Vec<_> = as_completed(futures, None).map(Result::unwrap).collect();
    assert_eq!(order, [before, quick, slow]);
}

#[test]
fn as_completed_ends_with_an_error_after_its_timeout() {
    let (_daemon, executor) = start(2);
    let (first, second) = (ended(&executor), long(&executor));
    let mut completed = as_completed([first.clone(), second.clone()], SHORT);
    assert_eq!(completed.next().unwrap().unwrap(), first);
    assert_eq!(completed.next().unwrap().unwrap_err().kind(), NotDone);
    assert!(completed.next().is_none());
    assert!(!second.done());
    second.cancel();
}

#[test]
fn as_completed_takes_futures_of_several_executors() {
    let (_daemon, executor) = start(1);
    let (_other_daemon, other_executor) = start(1);
    let futures = [short(&executor), short(&other_executor)];
    let completed: HashSet<_> =
        as_completed(futures.clone(), None).map(|future| future.unwrap().task()).collect();
    assert_eq!(completed, futures.iter().map(Future::task).collect());
}

// The table

/// Every row of the documentation names a test or says that there is no counterpart; every test that it
/// names is there, and every test of this file is named.
#[test]
fn table_and_tests_name_each_other() {
    let named = table::tests_named_in("docs/CONCURRENT_FUTURES.md", "no counterpart");
    assert!(named.len() > 40, "only {} tests are named", named.len());
    let here = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parity.rs")).unwrap();
    let tests = here.split("#[test]\nfn ").skip(1).filter_map(|test| test.split_once('(')).map(|test| test.0);
    for test in tests.filter(|test| *test != "table_and_tests_name_each_other") {
        assert!(named.contains(&format!("parity::{test}")), "`parity::{test}` is not in the table");
    }
}
