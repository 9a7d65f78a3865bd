//! What the operator reads: the sentence of every notice, and how much it matters.

use std::time::Duration;

use log::Level;

use super::*;
use crate::id::{AttemptId, FunctionName, Generation, Pid, PoolName, TaskId};
use crate::message::client::Refusal;
use crate::task::{CancelReason, Exit, Limit, Outcome, Payload};

const WORKER: WorkerId = WorkerId { slot: SlotId(3), generation: Generation(1) };
const TASK: TaskId = TaskId { epoch: Epoch(0x5f3a_91c2), number: 17 };
const OTHER_TASK: TaskId = TaskId { epoch: Epoch(0x5f3a_91c2), number: 18 };

fn pool() -> PoolName {
    "cpu".parse().expect("a name")
}

fn function() -> FunctionName {
    "is_prime".parse().expect("a name")
}

/// Holds every notice to its level and its sentence.
fn expect(notices: impl IntoIterator<Item = (Notice, Level, &'static str)>) {
    for (notice, level, sentence) in notices {
        assert_eq!((notice.level(), notice.to_string().as_str()), (level, sentence));
    }
}

fn signalled(signal: Signal, reason: EndReason) -> Notice {
    Notice::WorkerSignalled { worker: WORKER, signal, reason }
}

fn exited(pid: Option<Pid>, crashed: &[TaskId], expected: bool) -> Notice {
    let (exit, crashed) = (Exit::Signal(9), crashed.to_vec());
    Notice::WorkerExited { worker: WORKER, pool: pool(), pid, exit, crashed, expected }
}

#[test]
fn notices_of_a_workers_end_say_who_died_with_it() {
    expect([
        (exited(None, &[], true), Level::Info, "worker 3.1 of pool cpu ended: signal 9 (SIGKILL)"),
        (
            exited(Some(Pid(42)), &[TASK], false),
            Level::Warn,
            "worker 3.1 of pool cpu (pid 42) died: signal 9 (SIGKILL); crashed with it: task 5f3a91c2-17",
        ),
        (
            exited(Some(Pid(42)), &[TASK, OTHER_TASK], false),
            Level::Warn,
            "worker 3.1 of pool cpu (pid 42) died: signal 9 (SIGKILL); crashed with it: tasks 5f3a91c2-17, 5f3a91c2-18",
        ),
    ]);
}

#[test]
fn notices_of_signals_say_why_a_worker_is_to_end() {
    let reasons = [
        (EndReason::Cancelled(TASK), "its task 5f3a91c2-17 was cancelled"),
        (EndReason::TimedOut(TASK), "its task 5f3a91c2-17 timed out"),
        (EndReason::NotReadyInTime, "it was not ready in time"),
        (EndReason::Unresponsive, "it does not answer"),
        (EndReason::HungUp, "its socket or its sentinel ended before it did"),
        (EndReason::Broke, "it broke the protocol"),
        (EndReason::Worn, "it is worn"),
        (EndReason::Replaced, "it is replaced"),
        (EndReason::Shutdown, "the daemon stops"),
    ];
    for (reason, words) in reasons {
        let (asked, killed) = (signalled(Signal::Terminate, reason), signalled(Signal::Kill, reason));
        assert_eq!(asked.to_string(), format!("worker 3.1: SIGTERM, because {words}"));
        assert_eq!(killed.to_string(), format!("worker 3.1: SIGKILL, because {words}"));
        assert_eq!((asked.level(), killed.level()), (Level::Info, Level::Warn));
    }
}

#[test]
fn notices_of_wear_name_the_option_that_sets_its_limit() {
    let worn = |wear| Notice::WorkerWorn { worker: WORKER, pool: pool(), wear };
    expect([
        (
            worn(Wear::Attempts(100)),
            Level::Info,
            "worker 3.1 of pool cpu is replaced once it is idle: it was sent 100 attempts (max_attempts)",
        ),
        (
            worn(Wear::Lifetime(Duration::from_secs(90))),
            Level::Info,
            "worker 3.1 of pool cpu is replaced once it is idle: it was ready for 90s (max_lifetime)",
        ),
        (
            worn(Wear::Memory(4096)),
            Level::Info,
            "worker 3.1 of pool cpu is replaced once it is idle: 4096 bytes of it are resident (max_rss)",
        ),
    ]);
}

#[test]
fn notices_of_workers_say_which_and_of_which_pool() {
    let message = || "no database".to_owned();
    expect([
        (
            Notice::WorkerReady { worker: WORKER, pool: pool(), pid: Pid(42) },
            Level::Info,
            "worker 3.1 of pool cpu (pid 42) is ready",
        ),
        (
            Notice::WorkerFailed { worker: WORKER, pool: pool(), message: message() },
            Level::Warn,
            "worker 3.1 of pool cpu could not start: no database",
        ),
        (
            Notice::WorkerBroke { worker: WORKER, pool: pool(), reason: "half a frame".to_owned() },
            Level::Warn,
            "worker 3.1 of pool cpu broke the protocol: half a frame",
        ),
        (
            Notice::RestartDelayed { slot: WORKER.slot, pool: pool(), wait: Duration::from_millis(50) },
            Level::Warn,
            "slot 3 of pool cpu is restarted in 50ms",
        ),
        (
            Notice::StandbyPromoted { worker: WORKER, pool: pool() },
            Level::Info,
            "worker 3.1 of pool cpu stood by and serves now",
        ),
        (
            Notice::LateResultDropped { worker: WORKER, attempt: AttemptId(5) },
            Level::Debug,
            "worker 3.1: result of attempt 5 dropped, its task had ended",
        ),
        (
            Notice::PoolDegraded { pool: pool(), cause: message() },
            Level::Error,
            "pool cpu is degraded: its workers keep failing; the last one: no database",
        ),
        (Notice::PoolRecovered { pool: pool() }, Level::Info, "pool cpu is well again"),
    ]);
}

#[test]
fn notices_of_functions_and_refusals_say_what_to_do() {
    let refusal = Refusal::NotQuarantined { function: function() };
    expect([
        (
            Notice::FunctionQuarantined { function: function(), killed: 4 },
            Level::Error,
            "function is_prime is quarantined: its tasks killed 4 workers in a row; `poolctl release is_prime` lifts it",
        ),
        (
            Notice::FunctionReleased { function: function() },
            Level::Info,
            "function is_prime is no longer quarantined",
        ),
        (
            Notice::Refused { client: ConnectionId(2), user: Uid(1000), refusal, count: 1 },
            Level::Warn,
            "refused connection 2 (uid 1000): function `is_prime` is not quarantined; `poolctl status` names those that are",
        ),
    ]);
}

#[test]
fn notices_of_tasks_tell_a_life_from_acceptance_to_expiry() {
    let outcome = Outcome::TimedOut(Limit::Timeout);
    let wait = Duration::from_millis(50);
    expect([
        (
            Notice::TaskAccepted { task: TASK, function: function(), user: Uid(1000) },
            Level::Debug,
            "task 5f3a91c2-17 accepted: is_prime, for uid 1000",
        ),
        (
            Notice::TaskStarted { task: TASK, worker: WORKER },
            Level::Debug,
            "task 5f3a91c2-17 started on worker 3.1",
        ),
        (
            Notice::TaskRetried { task: TASK, outcome, wait, retries: 2 },
            Level::Info,
            "task 5f3a91c2-17 timed out: an attempt took too long; tried again in 50ms, 2 retries left",
        ),
        (
            Notice::TaskDone { task: TASK, outcome: Outcome::Ok(Payload::default()) },
            Level::Debug,
            "task 5f3a91c2-17 ok",
        ),
        (
            Notice::TaskDone { task: TASK, outcome: Outcome::Cancelled(CancelReason::Shutdown) },
            Level::Debug,
            "task 5f3a91c2-17 cancelled (shutdown)",
        ),
        (Notice::ResultExpired { task: TASK }, Level::Debug, "the result of task 5f3a91c2-17 expired"),
    ]);
}

#[test]
fn notices_of_phases_say_what_becomes_of_tasks() {
    let phases = [
        (Phase::Serving, "serving"),
        (Phase::Draining, "draining: no new tasks, those accepted are finished"),
        (Phase::ShuttingDown, "shutting down: pending tasks are cancelled, running ones may end"),
        (Phase::Stopped, "stopping the workers"),
    ];
    expect(phases.map(|(phase, sentence)| (Notice::PhaseChanged(phase), Level::Info, sentence)));
}
