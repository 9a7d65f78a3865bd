//! What is ready, turned into events: each kind of readiness with a function of its own.
//!
//! None takes more than its budget: what is left over is served in the next turn.

use std::mem;

use interprocess::os::unix::uds_local_socket::Stream;

use super::access::Objection;
use super::clients::ClientDid;
use super::config::Config;
use super::listener::{Accepted, turn_away};
use super::memory::resident_bytes;
use super::page::Begun;
use super::requests::share_of;
use super::signals::Request;
use super::token::{OutputStream, Token};
use super::workers::WorkerDid;
use super::{Daemon, LOG_TARGET};
use crate::id::{ConnectionId, Credentials, Pid, SlotId, WorkerId};
use crate::limits::{
    ACCEPTS_PER_TURN, DESCRIPTORS_PER_WORKER, DESCRIPTORS_RESERVED, MEMORY_DESCRIPTORS_MAX,
    MEMORY_DESCRIPTORS_SHARE, READ_BYTES_PER_TURN, REQUESTS_PER_TURN,
};
use crate::message::client::Refusal;
use crate::supervisor::Event;

/// Descriptors that are left beside the workers' and the daemon's own, of so many.
fn descriptors_beside(config: &Config, descriptors_max: u64) -> u64 {
    let workers = config.pools.iter().map(|pool| u64::from(pool.workers) + u64::from(pool.standby));
    let others = DESCRIPTORS_RESERVED + DESCRIPTORS_PER_WORKER * workers.sum::<u64>();
    descriptors_max.saturating_sub(others)
}

/// Those that shared memory may take.
pub(super) fn memory_descriptors(config: &Config, descriptors_max: u64) -> u64 {
    MEMORY_DESCRIPTORS_MAX.min(descriptors_beside(config, descriptors_max) / MEMORY_DESCRIPTORS_SHARE)
}

impl Daemon<'_> {
    /// Serves what became ready, within the budget of a turn.
    pub(super) fn serve(&mut self, token: Token) {
        match token {
            Token::WorkerOutput(slot, stream) => {
                if self.workers.read_output(slot, stream) {
                    self.ready.insert(token);
                }
            }
            Token::WorkerBell(slot) => self.look_at(slot, Begun::Unasked),
            Token::WorkerSocket(slot) => self.serve_worker(slot),
            Token::WorkerExit(slot) => self.serve_worker_exit(slot),
            Token::Client(client) => self.serve_client(client),
            Token::Spawner => self.serve_spawner(),
            Token::Signals => self.serve_signals(),
            Token::Listener => self.serve_listener(),
            Token::ServiceManager => self.notifier.send_waiting(),
            Token::Alarm => self.alarm.rang(),
        }
    }

    fn serve_worker(&mut self, slot: SlotId) {
        let token = Token::WorkerSocket(slot);
        let mut budget_bytes = READ_BYTES_PER_TURN;
        let mut budget_requests = REQUESTS_PER_TURN;
        while budget_requests > 0 {
            match self.workers.hear(slot, &mut budget_bytes) {
                WorkerDid::Event(event) => self.take_from_worker(event),
                WorkerDid::Ask(ask) => {
                    budget_requests = budget_requests.saturating_sub(share_of(&ask.request.body));
                    // That it runs is to be known first.
                    self.look_at(slot, Begun::All);
                    self.take_ask(ask);
                }
                WorkerDid::Enter => self.touched.insert(token),
                WorkerDid::Nothing => return,
                WorkerDid::Pause => break,
            }
        }
        self.ready.insert(token);
    }

    /// Takes what a worker has put on its page.
    pub(super) fn look_at(&mut self, slot: SlotId, begun: Begun) {
        let mut is_measured = false;
        let mut found = mem::take(&mut self.found);
        self.workers.look(slot, begun, &mut found);
        for event in found.drain(..) {
            if let Event::AttemptFinished { worker, .. } | Event::AttemptsFinished { worker, .. } = event
                && !mem::replace(&mut is_measured, true)
            {
                self.measure(worker);
            }
            self.step_of_worker(event);
        }
        self.found = found;
    }

    fn take_from_worker(&mut self, event: Event) {
        if let Event::AttemptFinished { worker, .. } = event {
            self.measure(worker);
        }
        let is_lost = matches!(event, Event::WorkerHungUp { .. });
        self.step_of_worker(event);
        if is_lost {
            // Another may have been sent what it would have been: that goes out before its remains are cleared away.
            self.flush();
        }
    }

    fn serve_worker_exit(&mut self, slot: SlotId) {
        match self.workers.take_ended(slot) {
            Some((events, remains)) => {
                // Before its successor is started.
                self.spawner.clear_away(remains);
                for event in events {
                    self.step_of_worker(event);
                }
            }
            None => {
                for event in self.workers.take_dying(slot) {
                    self.take_from_worker(event);
                }
            }
        }
    }

    /// Tells how much memory a worker takes after an attempt, if its pool sets a limit to that.
    fn measure(&mut self, worker: WorkerId) {
        let limited = self
            .workers
            .process_of(worker)
            .filter(|(pool, _)| self.config.pool(pool).is_some_and(|pool| pool.max_rss_bytes.is_some()));
        if let Some(rss_bytes) = limited.and_then(|(_, pid)| resident_bytes(pid)) {
            self.step(Event::WorkerMeasured { worker, rss_bytes });
        }
    }

    fn serve_client(&mut self, client: ConnectionId) {
        let token = Token::Client(client);
        // It may have to be told something by whatever it does.
        self.touched.insert(token);
        let mut budget_bytes = READ_BYTES_PER_TURN;
        let mut budget_requests = REQUESTS_PER_TURN;
        while budget_requests > 0 {
            match self.clients.hear(self.now, client, &mut budget_bytes) {
                ClientDid::Enter(peer) => self.step(Event::ClientConnected { client, peer }),
                ClientDid::Ask(request) => {
                    budget_requests = budget_requests.saturating_sub(share_of(&request.body));
                    self.take_request(client, request);
                }
                ClientDid::Leave => self.step(Event::ClientGone { client }),
                ClientDid::Nothing => return,
                ClientDid::Pause => break,
            }
        }
        self.ready.insert(token);
    }

    fn serve_spawner(&mut self) {
        while let Some(answer) = self.spawner.next_answer() {
            match answer {
                Ok(started) => {
                    let (worker, pid) = self.workers.add(*started);
                    let slot = worker.slot;
                    // What the poller reported of it so far was of a worker that was not known.
                    self.ready.extend(OutputStream::ALL.map(|stream| Token::WorkerOutput(slot, stream)));
                    self.ready.extend([Token::WorkerSocket(slot), Token::WorkerExit(slot)]);
                    self.step(Event::WorkerSpawned { worker, pid });
                }
                Err(failed) => {
                    self.step(Event::SpawnFailed { worker: failed.worker, message: failed.message });
                }
            }
        }
    }

    fn serve_signals(&mut self) {
        for request in self.signals.take() {
            match request {
                Request::Stop => {
                    log::info!(target: LOG_TARGET, "told to stop by a signal");
                    self.step(Event::StopRequested);
                }
                Request::Reload => {
                    if let Err(reason) = self.reload_config() {
                        let refusal = Refusal::NotReloaded(reason);
                        log::error!(target: LOG_TARGET, "told to reload by a signal: {refusal}");
                    }
                    self.turn_out_unwelcome();
                }
                Request::Sweep => self.spawner.sweep_strays(),
            }
        }
    }

    fn serve_listener(&mut self) {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.door.accept(self.now) {
                Accepted::Client(stream, peer, process) => self.take_up(stream, peer, process),
                Accepted::TurnedAway(user) => {
                    self.clients.note_turned_away(user, "no descriptor is left for it");
                }
                Accepted::Left(error) => {
                    log::debug!("a client left before it was let in: {error}");
                }
                Accepted::Nobody => return,
                Accepted::Failed(error) => {
                    log::error!("no client can be let in for now: {error}");
                    return;
                }
            }
        }
        self.ready.insert(Token::Listener);
    }

    fn take_up(&mut self, stream: Stream, peer: Credentials, process: Pid) {
        let user = peer.user;
        if let Some(Objection { verdict, reason }) = self.objection_to(&peer, process) {
            turn_away(&stream, verdict);
            self.clients.note_turned_away(user, &reason);
        } else if let Err(error) = self.clients.add(self.now, stream, peer) {
            log::error!("a client (uid {}) cannot be let in: {error}", user.0);
        }
    }

    /// How many connections leave enough descriptors for the workers to be started again; at least one.
    pub(super) fn connections_within_descriptors(&self) -> usize {
        let connections = descriptors_beside(&self.config, self.descriptors_max)
            - memory_descriptors(&self.config, self.descriptors_max);
        usize::try_from(connections).unwrap_or(usize::MAX).max(1)
    }
}
