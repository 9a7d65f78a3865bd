//! Clients coming and going, and what they ask of tasks that were accepted.

use super::Supervisor;
use super::action::EndReason;
use super::clients::Client;
use super::tasks::{State, TaskKey, Watcher};
use super::timers::Timer;
use crate::id::{ConnectionId, Credentials, TaskId};
use crate::limits::WATCHERS_PER_TASK_MAX;
use crate::message::client::{CancelAnswer, Refusal, ReplyBody};
use crate::task::{Attachment, CancelReason, Outcome, Started};

impl Supervisor {
    pub(super) fn client_connected(&mut self, client: ConnectionId, peer: Credentials) {
        self.let_in(client, Client::new(peer, None));
    }

    /// A function for which no task waits any more is not heard.
    pub(super) fn function_connected(&mut self, client: ConnectionId, task: TaskId) {
        let Some(key) = self.tasks.key(task.number) else { return };
        let State::Running { worker, attempt, .. } = self.tasks.get(key).state else { return };
        if self.has_started(worker, attempt) == Started::Yes {
            let Some(owner) = self.owner_of(key) else { return };
            self.tasks.get_mut(key).extras_mut().speaker = Some(client);
            self.let_in(client, Client::new(owner, Some(task)));
        }
    }

    /// Who submitted a task that is not done.
    fn owner_of(&self, key: TaskKey) -> Option<Credentials> {
        let task = self.tasks.get(key);
        match task.attachment {
            Attachment::Attached => {
                self.clients.get(&task.submitter.client).map(|client| client.peer.clone())
            }
            Attachment::Detached => task.extras.as_ref()?.owner.clone(),
        }
    }

    /// No task waits for a function any more, though it may still run: what it has submitted attached
    /// ends, and it is heard no more.
    pub(super) fn silence(&mut self, speaker: Option<ConnectionId>) {
        if let Some(speaker) = speaker {
            self.client_gone(speaker);
        }
    }

    fn let_in(&mut self, id: ConnectionId, client: Client) {
        let before = self.clients.insert(id, client);
        assert!(before.is_none(), "a connection's id is never given twice");
    }

    pub(super) fn client_gone(&mut self, client: ConnectionId) {
        let Some(gone) = self.clients.remove(&client) else { return };
        self.timers.disarm(Timer::ClientReads(client));
        for pool in &mut self.pools {
            pool.queue.unblock(client);
        }
        for number in self.unplaced.of_client(client) {
            self.take_unplaced(number);
        }
        for task in gone.watched {
            self.tasks.get_mut(task).extras_mut().watchers.retain(|watcher| watcher.client != client);
        }
        for row in gone.attached.tasks(&self.tasks.attached) {
            for task in self.take_apart(row) {
                self.cancel(task, CancelReason::ClientGone);
            }
        }
        self.drain_requests.retain(|requester| requester.client != client);
    }

    pub(super) fn client_blocked(&mut self, client: ConnectionId) {
        let Some(state) = self.clients.get_mut(&client) else { return };
        state.blocked = true;
        for pool in &mut self.pools {
            pool.queue.block(client, state.peer.user);
        }
        self.hurry_blocked(client);
    }

    pub(super) fn client_unblocked(&mut self, client: ConnectionId) {
        let Some(state) = self.clients.get_mut(&client) else { return };
        state.blocked = false;
        self.timers.disarm(Timer::ClientReads(client));
        for pool in &mut self.pools {
            pool.queue.unblock(client);
        }
    }

    pub(super) fn cancel_requested(&mut self, from: Watcher, task: TaskId) {
        let answer = match self.find_for(from, task) {
            Ok(Found::Row(key)) if matches!(self.tasks.get(key).state, State::Done { .. }) => {
                CancelAnswer::AlreadyDone
            }
            Ok(Found::Row(key)) => {
                self.cancel(key, CancelReason::Client);
                CancelAnswer::Cancelled
            }
            Ok(Found::EarlierEpoch) => CancelAnswer::AlreadyDone,
            Err(refusal) => return self.refuse(from, refusal),
        };
        self.reply(from, ReplyBody::CancelAnswered { task, answer });
    }

    pub(super) fn result_requested(&mut self, from: Watcher, task: TaskId, wait: bool) {
        let key = match self.find_for(from, task) {
            Ok(Found::Row(key)) => key,
            Ok(Found::EarlierEpoch) => {
                let outcome = Outcome::Lost { started: Started::Unknown };
                return self.reply(from, ReplyBody::Done { task, outcome });
            }
            Err(refusal) => return self.refuse(from, refusal),
        };
        let row = self.tasks.get(key);
        if let State::Done { outcome, .. } = &row.state {
            let outcome = outcome.as_ref().clone();
            return self.reply(from, ReplyBody::Done { task, outcome });
        }
        if !wait {
            let state = row.visible_state();
            return self.reply(from, ReplyBody::NotDone { task, state });
        }
        if let Err(refusal) = self.watch(from, key) {
            self.refuse(from, refusal);
        }
    }

    fn watch(&mut self, from: Watcher, key: TaskKey) -> Result<(), Refusal> {
        let row = self.tasks.get_mut(key);
        let task = row.id;
        let watchers = &mut row.extras_mut().watchers;
        if watchers.len() >= WATCHERS_PER_TASK_MAX {
            let watchers_max = WATCHERS_PER_TASK_MAX as u32;
            return Err(Refusal::TooManyWatchers { task, watchers_max });
        }
        let Some(client) = self.clients.get_mut(&from.client) else { return Ok(()) };
        client.count_wait()?;
        client.watched.insert(key);
        watchers.push(from);
        Ok(())
    }

    /// Ends a task that is not done, by somebody's wish.
    pub(super) fn cancel(&mut self, key: TaskKey, reason: CancelReason) {
        let id = self.tasks.get(key).id;
        self.withdraw(key, EndReason::Cancelled(id));
        self.conclude(key, Outcome::Cancelled(reason));
    }

    /// The task of that id, if the client may know of it; its row is its own.
    fn find_for(&mut self, from: Watcher, task: TaskId) -> Result<Found, Refusal> {
        if task.epoch != self.epoch {
            return Ok(Found::EarlierEpoch);
        }
        let key = self.tasks.key(task.number).ok_or(Refusal::NoSuchTask { task })?;
        let user = self.clients.get(&from.client).map(|client| client.peer.user);
        let owner = self.tasks.get(key).user;
        if user.is_some_and(|user| user == owner || self.policy.is_privileged(user)) {
            return Ok(Found::Row(self.single_out(task.number).unwrap_or(key)));
        }
        Err(Refusal::NotAllowed(format!("task {task} belongs to uid {}", owner.0)))
    }
}

/// What an id stands for.
enum Found {
    /// A task of the table.
    Row(TaskKey),
    /// A task that another start of the daemon accepted.
    EarlierEpoch,
}
