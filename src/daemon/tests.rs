//! The loop with real sockets, turn by turn.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::config::{Limits, Pool};
use super::*;
use crate::id::{ConnectionId, RequestId, TaskId};
use crate::limits::{self, OUTBOX_BYTES_HIGH};
use crate::message::client::{Refusal, Reply, ReplyBody, Request, RequestBody};
use crate::supervisor::RestartPolicy;
use crate::task::{Encoding, Outcome, Payload};
use crate::wire::{Answer, Filled, HANDSHAKE_BYTES, Hello, Inbox, Role, Verdict, encode};

/// How long a test waits for an event that must come before it gives up.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn unconfined() -> Confinement {
    Confinement::ByProcess { reason: "a test".to_owned() }
}

/// A program in the guard's place that does nothing: this one would run all tests again.
pub(super) fn guard() -> (Guard, guard::Records) {
    Guard::new("/bin/true".into(), None, None).expect("a pipe")
}

pub(super) fn children() -> Children {
    Children::adopt().expect("a list of children")
}

fn config(socket: &Path) -> Config {
    Config {
        socket: Some(socket.to_owned()),
        socket_mode: 0o600,
        socket_group: None,
        allow_fault_injection: false,
        access: crate::supervisor::Access::default(),
        drain_timeout: limits::DRAIN_TIMEOUT,
        limits: Limits {
            connections: 2,
            user_connections: 1,
            queue_tasks: limits::QUEUE_TASKS_MAX,
            user_tasks: limits::QUEUE_TASKS_MAX,
            payload_bytes: limits::PAYLOAD_BYTES_MAX,
            queue_bytes: limits::QUEUE_BYTES_MAX,
            user_bytes: limits::QUEUE_BYTES_MAX,
            unread_bytes: limits::UNREAD_BYTES_MAX,
            all_unread_bytes: limits::ALL_UNREAD_BYTES_MAX,
            results: limits::RESULTS_MAX,
            user_results: limits::RESULTS_MAX,
            result_bytes: limits::RESULT_BYTES_MAX,
            user_result_bytes: limits::RESULT_BYTES_MAX,
            result_age: limits::RESULT_AGE_MAX,
        },
        restart: RestartPolicy::default(),
        quarantine_after: None,
        functions: Vec::new(),
        pools: Vec::<Pool>::new(),
    }
}

/// A daemon without pools, in a directory of its own, that moves when the test says so.
struct World<'a> {
    _directory: tempfile::TempDir,
    daemon: Daemon<'a>,
    readiness: mio::Events,
}

impl<'a> World<'a> {
    fn new(logging: &'a Logging, reload: Reload) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = config(&directory.path().join("poold.sock"));
        let daemon = Daemon::start(
            RunOptions { config, reload, audience: Audience::Everyone, template: None },
            logging,
        )
        .expect("it starts");
        World { _directory: directory, daemon, readiness: mio::Events::with_capacity(16) }
    }

    /// Waits until something is ready, and serves it.
    fn turn(&mut self) {
        let timeout = if self.daemon.ready.is_empty() { PATIENCE } else { Duration::ZERO };
        poll(&mut self.daemon.poll, &mut self.readiness, Some(timeout)).expect("a poller");
        let idle = self.readiness.is_empty() && self.daemon.ready.is_empty();
        assert!(!idle, "nothing happened within {PATIENCE:?}");
        self.daemon.turn(&self.readiness);
    }

    fn connect(&self) -> Peer {
        let path = self.daemon.config.socket.as_ref().expect("it was given");
        let stream = UnixStream::connect(path).expect("it listens");
        stream.set_nonblocking(true).expect("it can be");
        Peer { stream, inbox: Inbox::default() }
    }

    /// A client that was let in.
    fn enter(&mut self) -> Peer {
        let mut peer = self.connect();
        peer.say(&Hello::new(Role::Client).encode());
        assert_eq!(self.answer(&mut peer).verdict, Verdict::Accepted);
        assert!(matches!(self.reply(&mut peer).body, ReplyBody::Welcome(_)));
        peer
    }

    fn answer(&mut self, peer: &mut Peer) -> Answer {
        loop {
            if let Some(answer) = peer.inbox.next_answer().expect("it is one") {
                return answer;
            }
            self.receive(peer).expect("an answer comes first");
        }
    }

    fn reply(&mut self, peer: &mut Peer) -> Reply {
        loop {
            if let Some(reply) = peer.inbox.next_message().expect("it is one") {
                return reply;
            }
            self.receive(peer).expect("a reply comes first");
        }
    }

    fn ask(&mut self, peer: &mut Peer, body: RequestBody) -> ReplyBody {
        let mut bytes = bytes::BytesMut::new();
        encode(&Request { id: RequestId(1), body }, &mut bytes).expect("it fits");
        peer.say(&bytes);
        let reply = self.reply(peer);
        assert_eq!(reply.request, Some(RequestId(1)));
        reply.body
    }

    fn is_closed(&mut self, peer: &mut Peer) -> bool {
        self.receive(peer).is_none() && peer.inbox.is_empty()
    }

    /// Moves the daemon until something comes; nothing means the end.
    fn receive(&mut self, peer: &mut Peer) -> Option<usize> {
        loop {
            match peer.inbox.fill(&mut peer.stream) {
                Ok(Filled::Bytes { bytes, .. }) => return Some(bytes),
                Ok(Filled::Nothing) => self.turn(),
                Ok(Filled::End) | Err(_) => return None,
            }
        }
    }
}

/// The other end of a connection.
struct Peer {
    stream: UnixStream,
    inbox: Inbox,
}

impl Peer {
    fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("there is room");
    }
}

fn logging() -> Logging {
    Logging::start(Filter::FromEnvironment).expect("a thread")
}

fn no_reload() -> Reload {
    Box::new(|_| Err("line 3: unknown key `worker`".to_owned()))
}

#[test]
fn status_request_is_answered() {
    let logging = logging();
    let mut world = World::new(&logging, no_reload());
    let mut client = world.enter();
    let ReplyBody::Status(status) = world.ask(&mut client, RequestBody::Status) else { panic!("a status") };
    assert_eq!(status.pid, Pid(std::process::id()));
    assert_eq!(status.connections, 1);
}

#[test]
fn garbage_is_answered_and_closed_and_nobody_else_notices() {
    let logging = logging();
    let mut world = World::new(&logging, no_reload());
    let mut client = world.enter();
    let mut hostile = world.connect();
    hostile.say(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(world.answer(&mut hostile).verdict, Verdict::NotAHandshake);
    assert!(world.is_closed(&mut hostile));
    let ReplyBody::Status(status) = world.ask(&mut client, RequestBody::Status) else { panic!("a status") };
    assert_eq!((status.connections, status.refusals), (1, 1));
}

#[test]
fn giant_length_is_refused_and_closed() {
    let logging = logging();
    let mut world = World::new(&logging, no_reload());
    let mut hostile = world.enter();
    hostile.say(&[0xff; 8]);
    let reply = world.reply(&mut hostile);
    assert!(matches!(reply.body, ReplyBody::Refused(Refusal::Protocol(_))));
    assert!(world.is_closed(&mut hostile));
}

#[test]
fn worker_on_the_clients_socket_is_turned_away() {
    let logging = logging();
    let mut world = World::new(&logging, no_reload());
    let mut impostor = world.connect();
    impostor.say(&Hello::new(Role::Worker).encode());
    assert_eq!(world.answer(&mut impostor).verdict, Verdict::WrongRole);
    assert!(world.is_closed(&mut impostor));
}

#[test]
fn half_a_frame_and_the_end_leaves_nothing_behind() {
    let logging = logging();
    let mut world = World::new(&logging, no_reload());
    let mut client = world.enter();
    client.say(&[9, 0, 0, 0, 0, 0, 0, 0, 1]);
    drop(client);
    while world.daemon.clients.len() > 0 {
        world.turn();
    }
    assert_eq!(world.daemon.clients.next_timeout(), None);
}

#[test]
fn acceptance_that_was_put_off_is_forgotten_with_its_client() {
    let logging = logging();
    let mut world = World::new(&logging, no_reload());
    let client = world.enter();
    let (id, request, now) = (ConnectionId(1), RequestId(1), world.daemon.now);
    let task = TaskId { epoch: Epoch(0), number: 1 };
    let clients = &mut world.daemon.clients;
    assert_eq!(clients.note_submission(id, request), None);
    clients.say(id, &Reply { request: Some(request), body: ReplyBody::Accepted { task } });
    clients.note_sent(now, task);
    assert_eq!(clients.next_timeout(), Some(now + limits::ACCEPTANCE_DELAY_MAX));
    drop(client);
    while world.daemon.clients.len() > 0 {
        world.turn();
    }
    assert_eq!(world.daemon.clients.next_timeout(), None, "it would be due for ever");
}

#[test]
fn connection_over_the_cap_is_told_so() {
    let logging = logging();
    let mut world = World::new(&logging, no_reload());
    let _first = world.enter();
    let _second = world.enter();
    let mut third = world.connect();
    assert_eq!(world.answer(&mut third).verdict, Verdict::TooManyConnections);
    assert!(world.is_closed(&mut third));
}

#[test]
fn descriptors_that_workers_need_are_kept_from_clients() {
    let logging = logging();
    let mut world = World::new(&logging, no_reload());
    world.daemon.descriptors_max = limits::DESCRIPTORS_RESERVED + 1;
    let _first = world.enter();
    let mut second = world.connect();
    assert_eq!(world.answer(&mut second).verdict, Verdict::TooManyConnections);
    assert!(world.is_closed(&mut second));
    world.daemon.descriptors_max = 0;
    assert_eq!(world.daemon.connections_within_descriptors(), 1, "an operator gets in");
}

#[test]
fn client_that_leaves_too_much_unread_is_held_back_until_it_reads() {
    const UNREAD_BYTES_MAX: usize = 1024 * 1024;
    let logging = logging();
    let mut world = World::new(&logging, no_reload());
    let mut client = world.enter();
    let id = ConnectionId(1);
    let result = Payload::new(Encoding::Bytes, vec![0; 64 * 1024]);
    let task = "00000001-1".parse().expect("a task id");
    let body = ReplyBody::Done { task, outcome: Outcome::Ok(result) };
    let reply = Reply { request: None, body };
    world.daemon.config.limits.unread_bytes = UNREAD_BYTES_MAX;
    let flush = |world: &mut World<'_>| {
        world.daemon.clients.flush(world.daemon.now, id, &world.daemon.config.limits).event
    };

    let blocked = loop {
        world.daemon.clients.say(id, &reply);
        if let Some(event) = flush(&mut world) {
            break event;
        }
    };
    assert!(matches!(blocked, Event::ClientBlocked { client } if client == id), "{blocked:?}");
    assert!(flush(&mut world).is_none(), "it is told once");

    let unblocked = loop {
        while let Ok(Filled::Bytes { .. }) = client.inbox.fill(&mut client.stream) {}
        poll(&mut world.daemon.poll, &mut world.readiness, Some(PATIENCE)).expect("a poller");
        for event in &world.readiness {
            world.daemon.note(event);
        }
        if let Some(event) = flush(&mut world) {
            break event;
        }
    };
    assert!(matches!(unblocked, Event::ClientUnblocked { client } if client == id), "{unblocked:?}");
}

#[test]
fn clients_that_leave_too_much_unread_together_are_each_held_back_sooner() {
    let logging = logging();
    let mut world = World::new(&logging, no_reload());
    let limits = &mut world.daemon.config.limits;
    limits.unread_bytes = 100 * OUTBOX_BYTES_HIGH;
    limits.all_unread_bytes = 4 * OUTBOX_BYTES_HIGH;
    let _clients = [world.enter(), world.enter()];
    let result = Payload::new(Encoding::Bytes, vec![0; 64 * 1024]);
    let task = "00000001-1".parse().expect("a task id");
    let reply = Reply { request: None, body: ReplyBody::Done { task, outcome: Outcome::Ok(result) } };
    let told = |world: &mut World<'_>, client: u64| {
        world.daemon.clients.say(ConnectionId(client), &reply);
        world.daemon.clients.flush(world.daemon.now, ConnectionId(client), &world.daemon.config.limits).event
    };
    let blocks = |world: &mut World<'_>, client: u64| (1..1000).find(|_| told(world, client).is_some());
    let first = blocks(&mut world, 1).expect("it is held back");
    let second = blocks(&mut world, 2).expect("it is held back");
    assert!(second < first / 2, "{first} outcomes are told the first, and {second} the second");
}

/// `count` times the same request, as one write.
fn pipelined(body: &RequestBody, count: usize) -> bytes::BytesMut {
    let mut bytes = bytes::BytesMut::new();
    for _ in 0..count {
        encode(&Request { id: RequestId(1), body: body.clone() }, &mut bytes).expect("it fits");
    }
    bytes
}

/// Lets the daemon move once; says how many replies come of it.
fn replies_of_a_turn(world: &mut World<'_>, peer: &mut Peer) -> usize {
    world.turn();
    let mut replies = 0;
    while let Ok(Filled::Bytes { .. }) = peer.inbox.fill(&mut peer.stream) {
        while peer.inbox.next_message::<Reply>().expect("it is one").is_some() {
            replies += 1;
        }
    }
    replies
}

#[test]
fn pipelined_requests_are_carried_out_a_share_in_each_turn() {
    let logging = logging();
    let mut world = World::new(&logging, no_reload());
    let mut hasty = world.enter();
    let task = TaskId { epoch: Epoch(0), number: 1 };
    let share = limits::REQUESTS_PER_TURN as usize;
    hasty.say(&pipelined(&RequestBody::Result { task, wait: false }, share + 36));
    assert_eq!(replies_of_a_turn(&mut world, &mut hasty), share);
    assert_eq!(replies_of_a_turn(&mut world, &mut hasty), 36);
}

#[test]
fn listing_takes_the_whole_share_of_a_turn() {
    let logging = logging();
    let mut world = World::new(&logging, no_reload());
    let mut hasty = world.enter();
    hasty.say(&pipelined(&RequestBody::Workers { skip: 0 }, 3));
    for _ in 0..3 {
        assert_eq!(replies_of_a_turn(&mut world, &mut hasty), 1);
    }
}

#[test]
fn silent_connection_is_closed_when_its_time_is_over() {
    let logging = logging();
    let mut world = World::new(&logging, no_reload());
    let mut silent = world.connect();
    silent.say(&Hello::new(Role::Client).encode()[..HANDSHAKE_BYTES - 1]);
    while world.daemon.clients.len() == 0 {
        world.turn();
    }
    let until = world.daemon.clients.next_timeout().expect("its hello is awaited");
    world.daemon.now = until;
    world.daemon.pass_time();
    assert!(world.is_closed(&mut silent));
}

#[test]
fn failed_reload_changes_nothing_and_says_why() {
    let logging = logging();
    let mut world = World::new(&logging, no_reload());
    let before = world.daemon.config.clone();
    let mut client = world.enter();
    let ReplyBody::Refused(refusal) = world.ask(&mut client, RequestBody::Reload) else {
        panic!("a refusal")
    };
    assert_eq!(refusal, Refusal::NotReloaded("line 3: unknown key `worker`".to_owned()));
    assert_eq!(world.daemon.config, before);
}

#[test]
fn reload_puts_the_new_configuration_in_force() {
    let logging = logging();
    let reload: Reload = Box::new(|before| {
        let mut config = before.clone();
        config.limits.connections = 7;
        Ok((config, vec!["limits.connections: 2 -> 7".to_owned()]))
    });
    let mut world = World::new(&logging, reload);
    let mut client = world.enter();
    let ReplyBody::Reloaded { changes } = world.ask(&mut client, RequestBody::Reload) else { panic!("done") };
    assert_eq!(changes, ["limits.connections: 2 -> 7"]);
    assert_eq!(world.daemon.config.limits.connections, 7);
}

#[test]
fn private_daemon_serves_its_program_and_stops_when_that_is_gone() {
    let logging = logging();
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    ours.set_nonblocking(true).expect("it can be");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = config(&directory.path().join("poold.sock"));
    let options = RunOptions {
        config,
        reload: no_reload(),
        audience: Audience::Program(theirs.into()),
        template: None,
    };
    let daemon = Daemon::start(options, &logging).expect("it starts");
    let mut world = World { _directory: directory, daemon, readiness: mio::Events::with_capacity(16) };
    let mut program = Peer { stream: ours, inbox: Inbox::default() };
    program.say(&Hello::new(Role::Client).encode());
    assert_eq!(world.answer(&mut program).verdict, Verdict::Accepted);
    assert!(matches!(world.reply(&mut program).body, ReplyBody::Welcome(_)));
    let ReplyBody::Status(status) = world.ask(&mut program, RequestBody::Status) else { panic!("a status") };
    assert_eq!(status.connections, 1);
    assert!(!world.daemon.config.socket.as_ref().is_some_and(|socket| socket.exists()));

    drop(program);
    while world.daemon.exit.is_none() {
        world.turn();
    }
}
