//! The supervisor's actions, carried out.

use std::mem;

use super::page::Begun;
use super::spawner::Order;
use super::token::Token;
use super::{Daemon, ExitKind, LOG_TARGET};
use crate::id::{AttemptId, FunctionName, PoolName, WorkerId};
use crate::message::status::Phase;
use crate::message::worker::{Report, ToWorker};
use crate::supervisor::{Action, Event, Notice};
use crate::task::{Failure, FailureKind};
use crate::wire::WireError;

impl Daemon<'_> {
    /// Carries out one action. What comes of it later is an event of its own.
    pub(super) fn perform(&mut self, action: Action) {
        match action {
            Action::SpawnWorker { worker, pool } => self.spawn(worker, &pool),
            Action::SendAttempt { worker, attempt, task, function, args } => {
                self.clients.note_sent(self.now, task);
                let sent = self.tell_worker(worker, &ToWorker::Attempt { attempt, task, function, args });
                if let Err(error) = sent {
                    let report = Report::Failed(Failure {
                        kind: FailureKind::BadArguments,
                        message: format!("the arguments do not fit into a frame: {error}"),
                        location: None,
                    });
                    self.events.push_back(Event::AttemptFinished { worker, attempt, report });
                }
            }
            Action::LookAt { worker } => self.look_at(worker.slot, Begun::Running),
            Action::SendAttempts { worker, attempt, task, function, args } => {
                self.tell_worker_surely(worker, &ToWorker::Attempts { attempt, task, function, args });
            }
            Action::RecallAttempts { worker, attempt, count } => self.recall(worker, attempt, count),
            Action::StopWorker { worker } => self.tell_worker_surely(worker, &ToWorker::Stop),
            Action::SignalWorker { worker, signal } => self.workers.signal(worker, signal),
            Action::Reply { client, reply } => match self.functions.place_of(client) {
                Some((worker, attempt)) => self.answer_function(worker, attempt, reply),
                None => {
                    self.clients.say(client, &reply);
                    self.touched.insert(Token::Client(client));
                }
            },
            Action::Notice(notice) => self.tell_operator(&notice),
            Action::Exit { forced } => {
                self.exit = Some(if forced { ExitKind::Forced } else { ExitKind::Drained });
            }
        }
    }

    fn spawn(&mut self, worker: WorkerId, pool: &PoolName) {
        let Some(settings) = self.config.pools.iter().find(|settings| settings.name == *pool) else {
            let message = format!("there is no pool {pool} in the configuration");
            self.events.push_back(Event::SpawnFailed { worker, message });
            return;
        };
        self.spawner.order(Order {
            worker,
            pool: pool.clone(),
            command: settings.command.clone(),
            env_pass: settings.env_pass.clone(),
            env: settings.env.clone(),
            allow_fault_injection: self.config.allow_fault_injection,
            threads: settings.threads,
            commands: self.config.commands_of(settings),
            limits: settings.limits.clone(),
            sandbox: settings.sandbox,
            work_limits: self.config.work_limits_of(settings),
            payload_bytes_max: self.config.limits.payload_bytes,
        });
    }

    fn recall(&mut self, worker: WorkerId, attempt: AttemptId, count: u32) {
        self.touched.insert(Token::WorkerSocket(worker.slot));
        // What has ended by now need not be asked for.
        self.look_at(worker.slot, Begun::Unasked);
        let mut found = mem::take(&mut self.found);
        if let Err(error) = self.workers.recall(worker, attempt, count, &mut found) {
            log::error!("a message to worker {worker} does not fit into a frame: {error}");
        }
        // At once: what is found on the worker's page next may have come of it.
        found.drain(..).for_each(|event| self.step(event));
        self.found = found;
        // What ended while the next one began is not waited for any more, but is over.
        self.look_at(worker.slot, Begun::Unasked);
    }

    pub(super) fn tell_worker(&mut self, worker: WorkerId, message: &ToWorker) -> Result<(), WireError> {
        self.touched.insert(Token::WorkerSocket(worker.slot));
        self.workers.say(worker, message)
    }

    /// For messages that fit into a frame whatever they hold.
    pub(super) fn tell_worker_surely(&mut self, worker: WorkerId, message: &ToWorker) {
        if let Err(error) = self.tell_worker(worker, message) {
            log::error!("a message to worker {worker} does not fit into a frame: {error}");
        }
    }

    fn tell_operator(&mut self, notice: &Notice) {
        log::log!(target: LOG_TARGET, notice.level(), "{notice}");
        if let Notice::WorkerReady { .. } = notice {
            self.check_rules();
        }
        if let Notice::StandbyPromoted { .. } = notice {
            self.spawner.give_way(self.now);
        }
        self.is_news |= match notice {
            Notice::WorkerReady { .. }
            | Notice::WorkerExited { .. }
            | Notice::PoolDegraded { .. }
            | Notice::PoolRecovered { .. }
            | Notice::FunctionQuarantined { .. }
            | Notice::FunctionReleased { .. }
            | Notice::PhaseChanged(_) => true,
            Notice::WorkerFailed { .. }
            | Notice::WorkerBroke { .. }
            | Notice::WorkerWorn { .. }
            | Notice::StandbyPromoted { .. }
            | Notice::WorkerSignalled { .. }
            | Notice::RestartDelayed { .. }
            | Notice::Refused { .. }
            | Notice::TaskAccepted { .. }
            | Notice::TaskStarted { .. }
            | Notice::TaskRetried { .. }
            | Notice::TaskDone { .. }
            | Notice::LateResultDropped { .. }
            | Notice::ResultExpired { .. } => false,
        };
    }

    /// Tells the service manager what is new since the last time.
    pub(super) fn tell_service_manager(&mut self) {
        if !mem::take(&mut self.is_news) || !self.notifier.is_asked() {
            return;
        }
        if self.supervisor.is_ready() {
            self.notifier.ready();
        }
        let pools = self.supervisor.pools();
        let ready: u32 = pools.iter().map(|pool| pool.ready).sum();
        let workers: u32 = pools.iter().map(|pool| pool.workers).sum();
        let degraded = pools.iter().filter(|pool| pool.degraded).map(|pool| pool.name.as_str());
        let degraded = degraded.collect::<Vec<_>>().join(", ");
        let doing = match self.supervisor.phase() {
            Phase::Serving => "serving",
            // Finishing what was accepted may take longer than a service manager lets a stop take.
            Phase::Draining => "draining",
            Phase::ShuttingDown | Phase::Stopped => {
                self.notifier.stopping();
                "stopping"
            }
        };
        let mut status = format!("{doing}: {ready} of {workers} workers ready");
        let quarantined = self.supervisor.quarantined().map(FunctionName::as_str);
        let quarantined = quarantined.collect::<Vec<_>>().join(", ");
        for (what, names) in [("degraded", degraded), ("quarantined", quarantined)] {
            if !names.is_empty() {
                status.push_str(&format!("; {what}: {names}"));
            }
        }
        self.notifier.status(status);
    }
}
