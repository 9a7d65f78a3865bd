//! Every cap and every default of the system, each with its unit and its reason.
//!
//! Nothing here decides anything: the constants are what configuration starts from and what both ends
//! of a socket agree on. A name ends in its unit.

use std::time::Duration;

/// Bytes in the largest frame, its header included. A peer that announces more is refused before
/// anything is allocated. 1 MiB holds any message; what is larger belongs in shared memory.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;

/// Bytes in the largest head (the decoded part of a frame). A page of task listings is the largest
/// one in use.
pub const HEAD_BYTES_MAX: usize = 256 * 1024;

/// Bytes of memory that decoding one head may claim. `bincode` counts sizes in memory, where an integer
/// of one encoded byte takes up to eight: so every head that can be sent can be read.
pub const DECODE_BYTES_MAX: usize = 8 * HEAD_BYTES_MAX;

/// Bytes in the largest payload (arguments or result).
pub const PAYLOAD_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Bytes in the largest payload that can travel inside a frame: the frame less room for its head.
pub const INLINE_BYTES_MAX: usize = FRAME_BYTES_MAX - 64 * 1024;

/// Bytes of the largest payload that is sent inside a frame; a larger one travels as shared memory. Measured
/// (docs/PERFORMANCE.md, "Big payloads"): a frame that needs a second read costs more than a memory file.
pub const INLINE_BYTES_PREFERRED: usize = 63 * 1024;

/// Tasks that may be spoken of at once: with so many, what they share costs each next to nothing, and one message holds
/// nobody up.
pub const TASKS_AT_ONCE_MAX: u32 = 1024;

/// Bytes of their payloads, with two more for each.
pub const BYTES_AT_ONCE_MAX: usize = 64 * 1024;

/// Open files that may travel with one payload.
pub const DESCRIPTORS_PER_PAYLOAD_MAX: usize = 8;

/// Descriptors that may travel with one frame: those open files, and the memory that the payload is in.
pub const DESCRIPTORS_PER_FRAME_MAX: usize = DESCRIPTORS_PER_PAYLOAD_MAX + 1;

/// Open files of one client's tasks that are not done.
pub const DESCRIPTORS_PER_CLIENT_MAX: usize = 256;

/// Bytes in the longest function name.
pub const FUNCTION_NAME_BYTES_MAX: usize = 128;

/// Bytes in the longest pool name.
pub const POOL_NAME_BYTES_MAX: usize = 64;

/// Bytes of a message (error, panic, refusal) that are kept; the rest is cut.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// Functions that one worker may announce.
pub const FUNCTIONS_PER_WORKER_MAX: usize = 1024;

/// Variables that workers inherit from the daemon; one that ends in `*` is every name that starts like it. What
/// programs, and connections to others, do not work well without, and nothing that may be a secret of the daemon's.
pub const ENV_PASS: [&str; 22] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    "TMPDIR",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
];

/// Attempts that one worker may hold at a time, whatever it announces.
pub const ATTEMPTS_PER_WORKER_MAX: u32 = 256;

/// Attempts that a worker may hold which keeps to the page: the one that it runs, and those sent ahead.
pub const ATTEMPTS_AHEAD_MAX: u32 = 1024;

/// Of those, how many it may hold while tasks keep coming that are more urgent than what it was sent: each of them waits
/// for what stands before it to be taken back, and for turns of the daemon that are the longer the more ends they
/// take in.
pub const ATTEMPTS_AHEAD_HURRIED: u32 = 64;

/// How long workers hold no more than that after such a task has come.
pub const HURRY: Duration = Duration::from_millis(100);

/// How far the numbers of attempts on their way to one worker may lie apart: the page tells them apart by less
/// than twice that.
pub const ATTEMPTS_APART_MAX: u64 = 1024;

/// How long a worker that has more to do may keep to itself what it has put on the page: short beside what a
/// caller notices, long beside what telling of it costs.
pub const REPORT_DELAY_MAX: Duration = Duration::from_micros(250);

/// What is over sooner has started no process: the kernel takes longer for the least that clone(2) can do, and ten times
/// as long for a fork. So it is not looked whether such an attempt has left something.
pub const PROCESS_START_MIN: Duration = Duration::from_micros(2);

/// How long after an attempt was sent the daemon looks at the page whether it has begun, if nothing was heard of
/// it: attempts that take longer are known to run by then, and nothing waits longer behind one of them. Much longer
/// than a round trip, since a timer that goes off costs two of them on a virtual machine.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(3);

/// The same, if the worker holds nothing else and nobody minds when it begins: one call after the other sets no timer
/// that goes off in vain.
pub const LOOK_LONE_INTERVAL: Duration = Duration::from_millis(50);

/// How long word that a lone task was accepted is put off, since it may go with word of its end. Longer than what lies
/// between two ticks of the kernel's clock: so the timer for it is not the next to go off, and costs nothing to put off.
pub const ACCEPTANCE_DELAY_MAX: Duration = Duration::from_millis(5);

/// How soon a timer that would go off in vain is put off.
pub const ALARM_SOON: Duration = Duration::from_millis(4);

/// How much earlier that may be where the daemon is awake anyway: to wake up for it costs the round trip that it falls
/// in three times as much.
pub const LOOK_EARLY_MAX: Duration = Duration::from_millis(1);

/// Arguments that a function which runs a command may take.
pub const COMMAND_ARGUMENTS_MAX: u32 = 1024;

/// Bytes of all functions that run a command, as a worker is told of them: what fits into a head beside
/// the rest of its setup.
pub const COMMANDS_BYTES_MAX: usize = HEAD_BYTES_MAX - 1024;

/// Bytes of what a command writes, or a server answers with, that can be returned: they are collected in the
/// memory of their worker, and a program that never ends its output must not fill the machine.
pub const OUTPUT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of a command's standard error that its failure tells: its end.
pub const COMMAND_ERROR_BYTES_MAX: usize = 2 * 1024;

/// Rows in one page of a listing.
pub const PAGE_ROWS_MAX: usize = 256;

/// Rows in one page of the listing of functions, whose texts are long.
pub const FUNCTION_ROWS_MAX: usize = 32;

/// Bytes of a function's signature and of its summary that are kept; the rest is cut.
pub const FUNCTION_TEXT_BYTES_MAX: usize = 1024;

/// Tasks that may be accepted and not done, all pools together.
pub const QUEUE_TASKS_MAX: u64 = 2_000_000;

/// Bytes of argument payload that may be held by tasks that are not done.
pub const QUEUE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Client connections open at one time.
pub const CONNECTIONS_MAX: usize = 16_384;

/// A user may take one part in so many of what all users share: connections, tasks, bytes, kept results.
/// With half of it a single user misses little, and none can keep all others out.
pub const USER_SHARE: u64 = 2;

/// Bytes of outcomes that wait for one client to read them before its further tasks are held back.
pub const UNREAD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of outcomes that wait for all clients together to read them; beyond it each may leave only
/// [`OUTBOX_BYTES_HIGH`] unread.
pub const ALL_UNREAD_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Bytes waiting to be written to a client beyond which nothing more is read from it.
pub const OUTBOX_BYTES_HIGH: usize = 256 * 1024;

/// Bytes read from one peer in one turn of the loop, so that none can hold the others up.
pub const READ_BYTES_PER_TURN: usize = 256 * 1024;

/// Requests of one client that are carried out in one turn of the loop: they are small, so that those
/// that fit into the bytes of a turn could hold the others up. One that lists something is as good as
/// all of them, since it costs what there is to be listed.
pub const REQUESTS_PER_TURN: u32 = 256;

/// How long a peer may take over its handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of room that a peer's buffer may keep while it is empty: thousands of idle connections cost
/// next to nothing.
pub const IDLE_BUFFER_BYTES_MAX: usize = 4 * 1024;

/// Descriptors that a client keeps of the big results that it holds: these are mapped when they are read, and copied
/// not even when they are passed on. The others are mapped as they come.
pub const MEMORY_DESCRIPTORS_KEPT_MAX: u64 = 64;

/// Of the descriptors that a client may have, those for big results are at most one in so many.
pub const MEMORY_DESCRIPTORS_KEPT_SHARE: u64 = 16;

/// Descriptors of one worker: its socket, its two outputs, its process, its sentinel and its bell.
pub const DESCRIPTORS_PER_WORKER: u64 = 6;

/// Descriptors that are kept from clients for all else: the daemon's own, some fifteen, those that it
/// takes to start a process, and the files that it reads.
pub const DESCRIPTORS_RESERVED: u64 = 32;

/// Descriptors of shared memory that the daemon holds at most: with payloads just above
/// [`INLINE_BYTES_PREFERRED`], queue, kept and unread results meet their caps on bytes at about so many. Where the
/// system allows the daemon few, it is one part in [`MEMORY_DESCRIPTORS_SHARE`] of what remains beside its workers.
pub const MEMORY_DESCRIPTORS_MAX: u64 = 65_536;

/// The other parts are for clients: who connects is many, who sends what is big is few.
pub const MEMORY_DESCRIPTORS_SHARE: u64 = 4;

/// Descriptors of shared memory that were sent to one client and that it has not taken: they count for the user
/// that the daemon runs as (unix(7), ETOOMANYREFS), and so for its workers.
pub const DESCRIPTORS_PASSED_MAX: usize = 4;

/// How long a client or worker waits before it tries again to send a descriptor, when its user has as many on
/// their way as it may.
pub const DESCRIPTORS_PAUSE: Duration = Duration::from_millis(10);

/// Clients accepted in one turn of the loop, so that a flood of them cannot hold the others up.
pub const ACCEPTS_PER_TURN: usize = 64;

/// How long nothing is accepted after the system ran out of descriptors or memory.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes read from one output pipe of a worker in one turn of the loop.
pub const OUTPUT_BYTES_PER_TURN: usize = 64 * 1024;

/// Bytes read from the socket of a worker that has died. What it had written before fits easily (a
/// socket's buffer); more comes only from a process that escaped its group and still holds the socket.
pub const LAST_WORDS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Processes that the spawner has been asked for at one time.
pub const SPAWNS_AHEAD: usize = 16;

/// How long the guard lets word of commands gather that come and go: the end of the daemon, and of a worker, it
/// hears of at once. The pipe to it holds seven thousand records.
pub const GUARD_PAUSE: Duration = Duration::from_millis(20);

/// How long the template may take to make a copy of itself, which is a matter of 0.1 ms: one that takes longer was
/// stopped, and is replaced.
pub const TEMPLATE_PATIENCE: Duration = Duration::from_secs(1);

/// How long a standby that has been put in service has the processors before the next one is started.
/// It takes about 0.1 ms to begin with an attempt, and the start of a process 1 to 2 ms of a processor.
pub const SUCCESSION: Duration = Duration::from_millis(1);

/// How long the daemon takes at its end to get the last replies and log lines out.
pub const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the result of a detached task is kept.
pub const RESULT_AGE_MAX: Duration = Duration::from_secs(3600);

/// Results of detached tasks that are kept.
pub const RESULTS_MAX: u64 = 100_000;

/// Bytes of results of detached tasks that are kept.
pub const RESULT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Clients that may wait for one task.
pub const WATCHERS_PER_TASK_MAX: usize = 64;

/// Requests for an outcome, or for the end of a drain, that one client may leave waiting at a time, beside its
/// own tasks: each may bring a payload, and all of them together about [`UNREAD_BYTES_MAX`].
pub const WATCHES_PER_CLIENT_MAX: usize = 64;

/// Most workers in one pool.
pub const WORKERS_PER_POOL_MAX: u32 = 4096;

/// The permission bits of the socket: its owner and its group may connect.
pub const SOCKET_MODE: u32 = 0o660;

/// Where the system's daemon listens, and clients look last.
pub const SYSTEM_SOCKET: &str = "/run/poold/poold.sock";

/// Bytes in the longest path of a socket: `sun_path` less its closing zero byte (unix(7)).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// How long a process may go on after it was told to end.
pub const GRACE: Duration = Duration::from_secs(1);

/// How long running tasks may go on once the daemon was told to stop.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a worker may take to become ready, and how long a task may wait for a first worker to
/// say which functions there are.
pub const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Restarts of failing workers allowed in a pool within [`RESTART_PERIOD`] (Erlang/OTP's intensity).
pub const RESTART_INTENSITY: u32 = 5;

/// The period of [`RESTART_INTENSITY`].
pub const RESTART_PERIOD: Duration = Duration::from_secs(5);

/// A worker that dies this soon after it was ready, without having finished an attempt, failed to start.
pub const EARLY_DEATH: Duration = Duration::from_secs(1);

/// The part of `max_attempts` and `max_lifetime` by which a worker may go before them, drawn anew for each:
/// workers that started together are not all replaced together.
pub const RECYCLING_JITTER: f64 = 0.1;

/// Workers that a function's tasks may kill in a row; with more, it is quarantined.
pub const QUARANTINE_AFTER: u32 = 100;

/// Most attempts that one worker runs at a time, each on a thread of its own.
pub const THREADS_PER_WORKER_MAX: u32 = 256;

/// The first wait before a restart or a retry; it doubles from here.
pub const BACKOFF_MIN: Duration = Duration::from_millis(50);

/// The longest wait before a restart or a retry.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Most retries a task may ask for.
pub const RETRIES_MAX: u32 = 1000;

/// Bytes of one line that a worker wrote to its standard output or error; the rest is cut.
pub const WORKER_LINE_BYTES_MAX: usize = 4096;

/// Lines that may wait for the log to be written; further ones are dropped and counted.
pub const LOG_LINES_MAX: usize = 8192;

/// Inputs of a client's `map` that are in hand at a time: enough to keep a large pool busy behind one slow
/// call.
pub const MAP_BUFFER: usize = 16384;

/// How long what a client's `map` submits may wait for more, unless it is waited for: a run of a thousand comes together
/// in that time.
pub const GATHERING_MAX: Duration = Duration::from_micros(100);

/// The longest that a client's `map` lets a queue be that others have filled, before it tries again.
pub const QUEUE_PAUSE_MAX: Duration = Duration::from_secs(1);
