//! The clients: who is connected, how far each has come, and what waits to be read by it.
//!
//! ```text
//!   accepted ──> Handshake ──hello──> Open ──end──> (gone)
//!                    │                  │
//!                    └── violation ─────┴──> Closing ──told, or too late──> (gone)
//! ```
//!
//! What a request means is not decided here but in `requests.rs`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::{io, mem};

use interprocess::os::unix::uds_local_socket::Stream;
use mio::Registry;

use super::config::Limits;
use super::connection::{Connection, Heard, answer_to, in_words};
use super::token::Token;
use crate::id::{ConnectionId, Credentials, RequestId, TaskId, Uid};
use crate::limits::{ACCEPTANCE_DELAY_MAX, HANDSHAKE_TIMEOUT, OUTBOX_BYTES_HIGH};
use crate::message::client::{Refusal, Reply, ReplyBody, Request, Welcome};
use crate::supervisor::{Event, Notice};
use crate::time::Time;
use crate::wire::{Answer, Inbox, Role, VERSION_MAX, Verdict, WireError};

/// Every connected client.
#[derive(Debug)]
pub(super) struct Clients {
    by_id: BTreeMap<ConnectionId, Client>,
    lone: Option<Lone>,
    /// How many connections each user has who has any.
    by_user: HashMap<Uid, usize>,
    /// Counts clients; never reused.
    last_id: u64,
    /// When those that are not open are given up.
    timeouts: BTreeSet<(Time, ConnectionId)>,
    /// What is said to whoever is let in.
    welcome: Welcome,
    /// How often something was refused here, and not by the supervisor.
    refusals: u64,
    /// Bytes that clients were told and have not read, as each was when it was last written to.
    unread_bytes: usize,
    /// Payloads in shared memory among that, each with a descriptor of the daemon's.
    unread_descriptors: usize,
    /// How many are too many.
    unread_descriptors_max: usize,
    registry: Registry,
}

#[derive(Debug)]
struct Client {
    connection: Connection,
    peer: Credentials,
    stage: Stage,
    /// When it is given up if it stays in its stage.
    until: Option<Time>,
    /// Its part of [`Clients::unread_bytes`].
    unread_bytes: usize,
    /// Its part of [`Clients::unread_descriptors`].
    unread_descriptors: usize,
    /// Whether the supervisor was told that it has too many unread outcomes.
    blocked: bool,
    /// What it is to be told next of requests that were accepted.
    accepted: Option<Run>,
}

/// The last task that was submitted to be waited for: if a worker has it at once, it may be over before its client
/// could read that it was accepted. So that is told together with what comes of it, or a little later.
#[derive(Clone, Copy, Debug)]
struct Lone {
    client: ConnectionId,
    request: RequestId,
    /// Once it is accepted.
    task: Option<TaskId>,
    /// Until when its acceptance is put off, once a worker has it.
    until: Option<Time>,
}

/// Requests that were accepted one after the other, and told of as one.
#[derive(Clone, Copy, Debug)]
struct Run {
    request: RequestId,
    task: TaskId,
    count: u32,
}

impl Run {
    /// With those of `next`, if they follow on those there are.
    fn extended(self, next: Run) -> Option<Self> {
        let count = self.count.checked_add(next.count)?;
        let follows = |first: u64, next: u64| first.checked_add(u64::from(self.count)) == Some(next);
        let is_next = follows(self.request.0, next.request.0) && follows(self.task.number, next.task.number);
        is_next.then_some(Run { count, ..self })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its hello is awaited.
    Handshake,
    /// It may ask anything.
    Open,
    /// It is told why it is closed. Nothing it says is heard.
    Closing,
}

/// What a client did, as far as others must know.
#[derive(Debug)]
pub(super) enum ClientDid {
    /// It was let in.
    Enter(Credentials),
    /// It asked something.
    Ask(Request),
    /// Nothing more for now.
    Nothing,
    /// There may be more to hear, in the next turn.
    Pause,
    /// It had been let in and is gone, or as good as gone.
    Leave,
}

/// What writing to a client brought about.
#[derive(Debug, Default)]
pub(super) struct Flushed {
    /// For the supervisor: it has too many unread outcomes, or few enough again.
    pub(super) event: Option<Event>,
    /// Whether it is to be heard again.
    pub(super) is_heard: bool,
}

impl Clients {
    /// None yet; whoever is let in is told `welcome`. With more than so many descriptors in unread outcomes, each may
    /// leave only [`OUTBOX_BYTES_HIGH`] unread.
    pub(super) fn new(welcome: Welcome, unread_descriptors_max: usize, registry: Registry) -> Self {
        Clients {
            by_id: BTreeMap::new(),
            lone: None,
            by_user: HashMap::new(),
            last_id: 0,
            timeouts: BTreeSet::new(),
            welcome,
            refusals: 0,
            unread_bytes: 0,
            unread_descriptors: 0,
            unread_descriptors_max,
            registry,
        }
    }

    /// What further clients are told of the largest payload.
    pub(super) fn set_payload_bytes_max(&mut self, payload_bytes_max: u64) {
        self.welcome.payload_bytes_max = payload_bytes_max;
    }

    /// How many connections there are.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// How many connections a user has.
    pub(super) fn len_of(&self, user: Uid) -> usize {
        self.by_user.get(&user).copied().unwrap_or_default()
    }

    /// How often something was refused here, and not by the supervisor.
    pub(super) fn refusals(&self) -> u64 {
        self.refusals
    }

    /// Which user a client is.
    pub(super) fn user(&self, id: ConnectionId) -> Option<Uid> {
        self.peer(id).map(|peer| peer.user)
    }

    /// Who a client is.
    pub(super) fn peer(&self, id: ConnectionId) -> Option<&Credentials> {
        self.by_id.get(&id).map(|client| &client.peer)
    }

    /// An id that no client had before.
    pub(super) fn next_id(&mut self) -> ConnectionId {
        self.last_id += 1;
        ConnectionId(self.last_id)
    }

    /// Takes up the accepted `stream` of `peer`, whose hello is then awaited.
    pub(super) fn add(&mut self, now: Time, stream: Stream, peer: Credentials) -> io::Result<ConnectionId> {
        let id = self.next_id();
        let connection = Connection::open(stream, Role::Client, Token::Client(id), &self.registry)?;
        let user = peer.user;
        let (stage, until) = (Stage::Handshake, None);
        let client = Client {
            connection,
            peer,
            stage,
            until,
            unread_bytes: 0,
            unread_descriptors: 0,
            blocked: false,
            accepted: None,
        };
        self.by_id.insert(id, client);
        *self.by_user.entry(user).or_default() += 1;
        self.enter(id, Stage::Handshake, Some(now + HANDSHAKE_TIMEOUT));
        log::debug!("connection {} (uid {}) opened", id.0, user.0);
        Ok(id)
    }

    /// Counts and logs a connection that was closed before it was taken up.
    pub(super) fn note_turned_away(&mut self, user: Uid, reason: &str) {
        self.refusals += 1;
        log::warn!("turned away a connection (uid {}): {reason}", user.0);
    }

    /// Takes in what the poller reports.
    pub(super) fn note(&mut self, id: ConnectionId, event: &mio::event::Event) {
        if let Some(client) = self.by_id.get_mut(&id) {
            client.connection.note(event);
        }
    }

    /// The next thing that a client does; to be called until it does nothing more.
    pub(super) fn hear(&mut self, now: Time, id: ConnectionId, budget_bytes: &mut usize) -> ClientDid {
        let Some(client) = self.by_id.get_mut(&id).filter(|client| client.stage != Stage::Closing) else {
            return ClientDid::Nothing;
        };
        match client.connection.hear(budget_bytes, Inbox::next_request) {
            Heard::Message(request) => ClientDid::Ask(request),
            Heard::Silence => ClientDid::Nothing,
            Heard::Pause => ClientDid::Pause,
            Heard::Hello(hello) => {
                let answer = answer_to(Role::Client, hello);
                client.connection.answer(answer);
                match answer.verdict {
                    Verdict::Accepted => self.let_in(id),
                    Verdict::NotAHandshake
                    | Verdict::NoCommonVersion
                    | Verdict::WrongRole
                    | Verdict::TooManyConnections
                    | Verdict::NotAllowed
                    | Verdict::TooManyOfUser => {
                        self.close_told(now, id, Refusal::Protocol(in_words(answer.verdict).to_owned()))
                    }
                }
            }
            Heard::Violation(WireError::NotAHandshake) => {
                let verdict = Verdict::NotAHandshake;
                client.connection.answer(Answer { verdict, version: VERSION_MAX });
                self.close_told(now, id, Refusal::Protocol(in_words(verdict).to_owned()))
            }
            Heard::Violation(error) => {
                let refusal = Refusal::Protocol(error.to_string());
                self.say(id, &Reply { request: None, body: ReplyBody::Refused(refusal.clone()) });
                self.close_told(now, id, refusal)
            }
            Heard::End(error) => {
                if let Some(error) = error {
                    log::warn!("reading from connection {} failed: {error}", id.0);
                }
                match self.remove(id) {
                    Some(Stage::Open) => ClientDid::Leave,
                    Some(Stage::Handshake | Stage::Closing) | None => ClientDid::Nothing,
                }
            }
        }
    }

    fn let_in(&mut self, id: ConnectionId) -> ClientDid {
        self.enter(id, Stage::Open, None);
        let Some(client) = self.by_id.get_mut(&id) else { return ClientDid::Nothing };
        let welcome = Reply { request: None, body: ReplyBody::Welcome(self.welcome.clone()) };
        if let Err(error) = client.connection.say(&welcome) {
            log::error!("the welcome to connection {} does not fit into a frame: {error}", id.0);
        }
        ClientDid::Enter(client.peer.clone())
    }

    /// Closes a client as soon as it has read what it was told of the reason.
    fn close_told(&mut self, now: Time, id: ConnectionId, refusal: Refusal) -> ClientDid {
        let Some(client) = self.by_id.get(&id) else { return ClientDid::Nothing };
        let (user, stage) = (client.peer.user, client.stage);
        self.note_refused(id, user, refusal);
        self.enter(id, Stage::Closing, Some(now + HANDSHAKE_TIMEOUT));
        match stage {
            Stage::Open => ClientDid::Leave,
            Stage::Handshake | Stage::Closing => ClientDid::Nothing,
        }
    }

    /// Closes those who may no longer be connected, as soon as they have read why; gives what came of each.
    pub(super) fn turn_out(
        &mut self,
        now: Time,
        may_stay: impl Fn(&Credentials) -> bool,
    ) -> Vec<(ConnectionId, ClientDid)> {
        let unwelcome = self.by_id.iter().filter(|(_, client)| !may_stay(&client.peer));
        let mut unwelcome: Vec<(ConnectionId, Stage)> =
            unwelcome.map(|(id, client)| (*id, client.stage)).collect();
        unwelcome.retain(|(_, stage)| *stage != Stage::Closing);
        unwelcome.sort_by_key(|(id, _)| *id);
        let rule = "access.connect of the configuration no longer names you; ask its operator to be added";
        let refusal = Refusal::NotAllowed(rule.to_owned());
        let closed = unwelcome.into_iter().map(|(id, stage)| {
            if stage == Stage::Open {
                self.say(id, &Reply { request: None, body: ReplyBody::Refused(refusal.clone()) });
            } else if let Some(client) = self.by_id.get_mut(&id) {
                client.connection.answer(Answer { verdict: Verdict::NotAllowed, version: VERSION_MAX });
            }
            (id, self.close_told(now, id, refusal.clone()))
        });
        closed.collect()
    }

    /// Counts and logs what was refused to a client here, and not by the supervisor.
    fn note_refused(&mut self, client: ConnectionId, user: Uid, refusal: Refusal) {
        self.refusals += 1;
        let notice = Notice::Refused { client, user, refusal, count: 1 };
        log::log!(target: super::LOG_TARGET, notice.level(), "{notice}");
    }

    /// Puts `reply` into a client's outbox, if it is still there.
    pub(super) fn say(&mut self, id: ConnectionId, reply: &Reply) {
        let Some(client) = self.by_id.get_mut(&id).filter(|client| client.stage == Stage::Open) else {
            return;
        };
        if let Reply { request: Some(request), body: ReplyBody::Accepted { task } } = *reply {
            if let Some(lone) = self.lone.as_mut().filter(|lone| (lone.client, lone.request) == (id, request))
            {
                lone.task = Some(task);
            }
            return client.tell_accepted(Run { request, task, count: 1 });
        }
        if let Reply { request: Some(request), body: ReplyBody::AllAccepted { first: task, count } } = *reply
        {
            return client.tell_accepted(Run { request, task, count });
        }
        client.tell_of_run();
        let Err(error) = client.connection.say(reply) else { return };
        let refusal = Refusal::BadOption(format!("the answer does not fit into a frame: {error}"));
        let refused = Reply { request: reply.request, body: ReplyBody::Refused(refusal.clone()) };
        if let Err(error) = client.connection.say(&refused) {
            log::error!("a refusal to connection {} does not fit: {error}", id.0);
        }
        let user = client.peer.user;
        self.note_refused(id, user, refusal);
    }

    /// Refuses a request that the supervisor never sees.
    pub(super) fn refuse(&mut self, id: ConnectionId, request: RequestId, refusal: Refusal) {
        let Some(user) = self.user(id) else { return };
        self.note_refused(id, user, refusal.clone());
        self.say(id, &Reply { request: Some(request), body: ReplyBody::Refused(refusal) });
    }

    /// Writes to a client what it takes. How much it may leave unread `limits` says, and less when all together
    /// leave too much.
    pub(super) fn flush(&mut self, now: Time, id: ConnectionId, limits: &Limits) -> Flushed {
        let Some(client) = self.by_id.get_mut(&id) else { return Flushed::default() };
        if let Some(lone) = self.lone.filter(|lone| lone.client == id) {
            let is_put_off = lone.until.is_some_and(|until| now < until);
            if is_put_off && client.connection.outbox_bytes() == 0 {
                return Flushed::default();
            }
            self.lone = None;
        }
        client.tell_of_run();
        let is_heard = client.connection.flush(&self.registry);
        let unread_bytes = client.connection.outbox_bytes();
        self.unread_bytes -= mem::replace(&mut client.unread_bytes, unread_bytes);
        self.unread_bytes += unread_bytes;
        let descriptors = client.connection.outbox_descriptors();
        self.unread_descriptors -= mem::replace(&mut client.unread_descriptors, descriptors);
        self.unread_descriptors += descriptors;
        let is_too_much = self.unread_bytes > limits.all_unread_bytes
            || self.unread_descriptors > self.unread_descriptors_max;
        let unread_bytes_max =
            limits.unread_bytes.min(if is_too_much { OUTBOX_BYTES_HIGH } else { usize::MAX });
        let event = match (client.stage, client.blocked) {
            (Stage::Open, false)
                if unread_bytes > unread_bytes_max && !client.connection.has_passed_one() =>
            {
                log::warn!("connection {} leaves {unread_bytes} bytes unread: its tasks are held back", id.0);
                Some(Event::ClientBlocked { client: id })
            }
            (Stage::Open, true) if unread_bytes <= unread_bytes_max / 2 => {
                log::info!("connection {} has read enough: its tasks go on", id.0);
                Some(Event::ClientUnblocked { client: id })
            }
            (Stage::Closing, _) if unread_bytes == 0 => {
                self.remove(id);
                return Flushed::default();
            }
            (Stage::Handshake | Stage::Open | Stage::Closing, _) => None,
        };
        client.blocked ^= event.is_some();
        Flushed { event, is_heard }
    }

    /// Writes to everyone what they take; says whether something is left to write.
    pub(super) fn flush_all(&mut self) -> bool {
        self.by_id.values_mut().fold(false, |is_left, client| {
            client.tell_of_run();
            client.connection.flush(&self.registry);
            is_left || !client.connection.is_flushed()
        })
    }

    /// A client submits a task and waits for it. Gives one that is to be told of another now.
    pub(super) fn note_submission(
        &mut self,
        client: ConnectionId,
        request: RequestId,
    ) -> Option<ConnectionId> {
        let before = self.lone.replace(Lone { client, request, task: None, until: None });
        before.filter(|before| before.until.is_some()).map(|before| before.client)
    }

    /// A client submits several tasks at once. Gives one that is to be told of another now.
    pub(super) fn note_submissions(&mut self) -> Option<ConnectionId> {
        let before = self.lone.take();
        before.filter(|before| before.until.is_some()).map(|before| before.client)
    }

    /// A worker was sent an attempt of a task.
    pub(super) fn note_sent(&mut self, now: Time, task: TaskId) {
        if let Some(lone) = self.lone.as_mut().filter(|lone| lone.task == Some(task)) {
            lone.until = Some(now + ACCEPTANCE_DELAY_MAX);
        }
    }

    /// Whom to tell now what was put off.
    pub(super) fn due(&self, now: Time) -> Option<ConnectionId> {
        self.lone.filter(|lone| lone.until.is_some_and(|until| until <= now)).map(|lone| lone.client)
    }

    /// When the next client is given up for its silence, or for not reading why it is closed, or told what was put
    /// off.
    pub(super) fn next_timeout(&self) -> Option<Time> {
        let put_off = self.lone.and_then(|lone| lone.until);
        self.next_given_up().into_iter().chain(put_off).min()
    }

    fn next_given_up(&self) -> Option<Time> {
        self.timeouts.first().map(|(until, _)| *until)
    }

    /// Gives up those whose time is over.
    pub(super) fn expire(&mut self, now: Time) {
        while self.next_given_up().is_some_and(|until| until <= now) {
            let Some((_, id)) = self.timeouts.pop_first() else { return };
            if let (Some(user), Some(Stage::Handshake)) = (self.user(id), self.remove(id)) {
                let refusal = Refusal::Protocol(format!("no handshake within {HANDSHAKE_TIMEOUT:?}"));
                self.note_refused(id, user, refusal);
            }
        }
    }

    fn enter(&mut self, id: ConnectionId, stage: Stage, until: Option<Time>) {
        let Some(client) = self.by_id.get_mut(&id) else { return };
        client.stage = stage;
        let before = mem::replace(&mut client.until, until);
        if let Some(before) = before {
            self.timeouts.remove(&(before, id));
        }
        if let Some(until) = until {
            self.timeouts.insert((until, id));
        }
    }

    /// Closes a client's socket; gives the stage it was in.
    fn remove(&mut self, id: ConnectionId) -> Option<Stage> {
        let client = self.by_id.remove(&id)?;
        self.lone = self.lone.filter(|lone| lone.client != id);
        if let Some(until) = client.until {
            self.timeouts.remove(&(until, id));
        }
        self.unread_bytes -= client.unread_bytes;
        self.unread_descriptors -= client.unread_descriptors;
        let user = client.peer.user;
        match self.len_of(user) {
            1 => _ = self.by_user.remove(&user),
            connections => _ = self.by_user.insert(user, connections - 1),
        }
        client.connection.close(&self.registry);
        log::debug!("connection {} closed", id.0);
        Some(client.stage)
    }
}

impl Client {
    /// Tells it that requests were accepted: with those before them, as far as they follow on them.
    fn tell_accepted(&mut self, next: Run) {
        let longer = self.accepted.and_then(|run| run.extended(next));
        if longer.is_none() {
            self.tell_of_run();
        }
        self.accepted = longer.or(Some(next));
    }

    /// Puts what it is to be told of accepted requests into its outbox.
    fn tell_of_run(&mut self) {
        let Some(Run { request, task, count }) = self.accepted.take() else { return };
        let body = match count {
            1 => ReplyBody::Accepted { task },
            count => ReplyBody::AllAccepted { first: task, count },
        };
        if let Err(error) = self.connection.say(&Reply { request: Some(request), body }) {
            log::error!("word of an accepted task does not fit into a frame: {error}");
        }
    }
}
