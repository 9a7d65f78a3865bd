//! Takes in what the supervisor orders.

use poold::id::{AttemptId, ConnectionId, RequestId, TaskId, Uid, WorkerId};
use poold::message::client::ReplyBody;
use poold::supervisor::{Action, Notice, Signal};
use poold::task::{Attachment, Outcome};

use super::{Attempt, History, Place, Request, State, Submission, Task, Worker};

impl History {
    /// Takes in what the supervisor ordered.
    pub fn take_action(&mut self, action: &Action) {
        let now = self.now;
        match action {
            Action::SpawnWorker { worker, pool } => {
                if let Some(asked) = self.pool_ever(pool).map(|pool| Worker::asked(pool, now)) {
                    self.workers.insert(*worker, asked);
                }
            }
            Action::SendAttempt { worker, attempt, task, .. } => self.sent(*worker, *attempt, *task),
            Action::RecallAttempts { worker, attempt, .. } => {
                if let Some(attempt) = self.attempt_mut(*worker, *attempt) {
                    attempt.recall_at = Some(now);
                }
            }
            // Those are taken in one by one.
            Action::SendAttempts { .. } => {}
            Action::LookAt { .. } => {}
            Action::StopWorker { worker } => {
                if let Some(worker) = self.workers.get_mut(worker) {
                    worker.stop_at.get_or_insert(now);
                }
            }
            Action::SignalWorker { worker, signal } => {
                if let Some(worker) = self.workers.get_mut(worker) {
                    match signal {
                        Signal::Terminate => worker.terminate_at.get_or_insert(now),
                        Signal::Kill => worker.kill_at.get_or_insert(now),
                    };
                }
            }
            Action::Reply { client, reply } => {
                if let Some(request) = reply.request {
                    self.replied(*client, request, &reply.body);
                }
            }
            Action::Notice(notice) => self.noticed(notice),
            Action::Exit { forced } => self.exit = Some(*forced),
        }
    }

    fn sent(&mut self, worker: WorkerId, attempt: AttemptId, id: TaskId) {
        let now = self.now;
        let Some(receiver) = self.workers.get_mut(&worker) else { return };
        receiver.sent += 1;
        receiver.spoiled_at = None;
        if receiver.holds.is_empty() && receiver.taken_back.is_empty() {
            receiver.heard_at = now;
        }
        receiver.holds.push((attempt, id));
        self.join_line(id);
        if let Some(task) = self.tasks.get_mut(&id) {
            task.state = State::Sent;
            task.attempts.push(Attempt::sent(worker, attempt));
        }
    }

    fn replied(&mut self, client: ConnectionId, request: RequestId, body: &ReplyBody) {
        let asked = self.requests.remove(&(client, request));
        match body {
            ReplyBody::Accepted { task } => {
                if let Some(Request::Submit(submission)) = asked {
                    self.accepted(client, *task, *submission);
                }
            }
            ReplyBody::Done { task, outcome } => self.finish(*task, outcome),
            ReplyBody::Refused(_) => self.refusals += 1,
            ReplyBody::Started { .. }
            | ReplyBody::NotDone { .. }
            | ReplyBody::CancelAnswered { .. }
            | ReplyBody::Drained
            | ReplyBody::Released { .. }
            | ReplyBody::AllAccepted { .. }
            | ReplyBody::AllDone { .. }
            | ReplyBody::Welcome(_)
            | ReplyBody::Status(_)
            | ReplyBody::Workers { .. }
            | ReplyBody::Tasks { .. }
            | ReplyBody::Functions { .. }
            | ReplyBody::Reloaded { .. } => {}
        }
    }

    fn accepted(&mut self, client: ConnectionId, id: TaskId, submission: Submission) {
        let peer = self.clients.get(&client).map(|client| client.peer.clone());
        let owner = peer.unwrap_or_else(|| Uid(u32::MAX).into());
        let parent = self.clients.get(&client).and_then(|client| client.parent);
        let parent = parent.filter(|_| submission.spec.attachment == Attachment::Attached);
        let pool = self.pool_for(&submission.spec).map(|pool| pool.name.clone());
        let state = match submission.spec.delay {
            Some(delay) if !delay.is_zero() => State::Delayed {
                until: submission.at + delay,
                until_at_latest: self.now + delay,
                since_step: None,
                former: None,
            },
            Some(_) | None => State::Pending,
        };
        let place = Place { earliest: submission.step, latest: self.step };
        let task = Task {
            id,
            client,
            owner,
            parent,
            submission,
            pool,
            state,
            place,
            attempts: Vec::new(),
            retried: 0,
            calls: 0,
            starts: 0,
            done_at: None,
        };
        self.live.insert(id);
        self.tasks.insert(id, task);
        self.note_delays();
    }

    fn noticed(&mut self, notice: &Notice) {
        match notice {
            Notice::TaskDone { task, outcome } => self.finish(*task, outcome),
            Notice::TaskRetried { task, wait, .. } => {
                let until = self.now + *wait;
                self.function_is_over(*task);
                if let Some(task) = self.tasks.get_mut(task) {
                    task.retried += 1;
                    let former = task.attempts.last().map(|attempt| attempt.worker);
                    task.state = State::Delayed { until, until_at_latest: until, since_step: None, former };
                }
                self.note_delays();
            }
            Notice::ResultExpired { task } => {
                self.kept.remove(task);
            }
            Notice::WorkerWorn { worker, .. } => {
                if let Some(worker) = self.workers.get_mut(worker) {
                    worker.worn_at = Some(self.now);
                }
            }
            Notice::FunctionQuarantined { function, .. } => _ = self.quarantined.insert(function.clone()),
            Notice::FunctionReleased { function } => _ = self.quarantined.remove(function),
            Notice::PoolDegraded { pool, .. } => _ = self.degraded.insert(pool.clone()),
            Notice::PoolRecovered { pool } => _ = self.degraded.remove(pool),
            Notice::WorkerReady { .. }
            | Notice::WorkerExited { .. }
            | Notice::WorkerFailed { .. }
            | Notice::WorkerBroke { .. }
            | Notice::WorkerSignalled { .. }
            | Notice::RestartDelayed { .. }
            | Notice::StandbyPromoted { .. }
            | Notice::Refused { .. }
            | Notice::TaskAccepted { .. }
            | Notice::TaskStarted { .. }
            | Notice::LateResultDropped { .. }
            | Notice::PhaseChanged(_) => {}
        }
    }

    fn finish(&mut self, id: TaskId, outcome: &Outcome) {
        if !self.live.remove(&id) {
            return;
        }
        self.function_is_over(id);
        if let Some(task) = self.tasks.get_mut(&id) {
            task.state = State::Done(outcome.clone());
            task.done_at = Some(self.now);
            *self.outcomes.entry(outcome.kind()).or_default() += 1;
            if task.is_detached() {
                self.kept.insert(id);
            }
        }
    }
}
