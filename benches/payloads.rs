//! From which size on a payload should be shared memory: carried inside a frame beside passed as a descriptor, in
//! turns, through a relay of three processes like client, daemon and worker. `cargo bench --bench payloads`
//!
//! ```text
//!   client ──args──> relay ──> echo: reads every byte, and returns as many of its own
//!   client <───────── relay <──┘
//! ```
//!
//! Each side makes its payload from bytes that it has, and reads each byte of the one it is given. The relay passes
//! frames on as the daemon does. Behind it the same with 256 MiB, where nothing fits into a frame: what of it is
//! filling memory, and what is left.

use std::error::Error;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use bytes::Bytes;
use poold::id::{FunctionName, RequestId};
use poold::memory::MemoryFile;
use poold::message::client::{Request, RequestBody};
use poold::task::{Encoding, Payload, TaskSpec};
use poold::wire::{Inbox, Outbox};

const KIB: usize = 1024;
const SIZES: [usize; 10] = [4, 16, 32, 48, 63, 64, 128, 256, 512, 960];
const TURNS: usize = 400;
const BIG: usize = 256 * KIB * KIB;
const BIG_TURNS: usize = 7;

/// How a payload travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Inline,
    Shared,
}

/// One end of a conversation.
struct End {
    socket: UnixStream,
    inbox: Inbox,
    outbox: Outbox,
}

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1).as_deref() {
        Some("relay") => relay(End::inherited()?),
        Some("echo") => echo(End::inherited()?),
        Some(_) | None => measure(),
    }
}

fn measure() -> Result<(), Box<dyn Error>> {
    let (mut relay, mut client) = End::start("relay")?;
    println!(
        "there and back, µs (medians)\n{:>10} {:>10} {:>10} {:>8}",
        "KiB", "in frames", "shared", "ratio"
    );
    for size in SIZES.map(|kib| kib * KIB) {
        let bytes: Bytes = vec![7; size].into();
        let mut micros = [Vec::new(), Vec::new()];
        for _ in 0..TURNS {
            for (way, micros) in [Way::Inline, Way::Shared].into_iter().zip(&mut micros) {
                micros.push(client.round_trip(&bytes, way)? * 1e6);
            }
        }
        let [inline, shared] = micros.map(median);
        println!("{:>10} {inline:>10.1} {shared:>10.1} {:>8.2}", size / KIB, shared / inline);
    }
    let bytes: Bytes = vec![7; BIG].into();
    let (mut trips, mut fills) = (Vec::new(), Vec::new());
    for _ in 0..BIG_TURNS {
        let before = Instant::now();
        let filled = payload(&bytes, Way::Shared)?;
        fills.push(before.elapsed().as_secs_f64() * 1e3);
        drop(filled);
        trips.push(client.round_trip(&bytes, Way::Shared)? * 1e3);
    }
    println!(
        "256 MiB there and others back: {:.0} ms; to fill such a memory {:.0} ms",
        median(trips),
        median(fills)
    );
    drop(client);
    relay.wait()?;
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn payload(bytes: &Bytes, way: Way) -> Result<Payload, Box<dyn Error>> {
    Ok(match way {
        Way::Inline => Payload::new(Encoding::Bytes, bytes.clone()),
        Way::Shared => {
            let mut memory = MemoryFile::new()?;
            memory.write_all(bytes)?;
            Payload::shared(Encoding::Bytes, memory.seal()?)
        }
    })
}

/// Reads every byte.
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

/// Passes on whatever comes from one side to the other, in turns.
fn relay(mut client: End) -> Result<(), Box<dyn Error>> {
    let (mut child, mut echo) = End::start("echo")?;
    while let Some(args) = client.hear() {
        echo.say(args)?;
        let Some(result) = echo.hear() else { break };
        client.say(result)?;
    }
    drop(echo);
    child.wait()?;
    Ok(())
}

fn echo(mut relay: End) -> Result<(), Box<dyn Error>> {
    let own: Bytes = vec![7; BIG].into();
    while let Some(args) = relay.hear() {
        let way = if args.content.memory().is_some() { Way::Shared } else { Way::Inline };
        let bytes = args.bytes()?;
        assert_eq!(sum(&bytes), 7 * bytes.len() as u64);
        relay.say(payload(&own.slice(..bytes.len()), way)?)?;
    }
    Ok(())
}

impl End {
    fn new(socket: UnixStream) -> Self {
        End { socket, inbox: Inbox::default(), outbox: Outbox::default() }
    }

    /// Starts a process of that role; gives the end of a conversation with it.
    fn start(role: &str) -> Result<(Child, Self), Box<dyn Error>> {
        let (near, far) = UnixStream::pair()?;
        let mut command = Command::new(std::env::current_exe()?);
        let child = command.arg(role).stdin(Stdio::from(OwnedFd::from(far))).spawn()?;
        Ok((child, End::new(near)))
    }

    fn inherited() -> Result<Self, Box<dyn Error>> {
        Ok(End::new(std::io::stdin().as_fd().try_clone_to_owned()?.into()))
    }

    fn say(&mut self, args: Payload) -> Result<(), Box<dyn Error>> {
        let spec = TaskSpec::new(FunctionName::new("echo")?);
        self.outbox
            .push(&Request { id: RequestId(1), body: RequestBody::Submit { spec: spec.into(), args } })?;
        while !self.outbox.is_empty() {
            self.outbox.send(&self.socket)?;
        }
        Ok(())
    }

    /// What the other end says, until it hangs up.
    fn hear(&mut self) -> Option<Payload> {
        match self.inbox.receive_from(&self.socket) {
            Ok(Request { body: RequestBody::Submit { args, .. }, .. }) => Some(args),
            Ok(_) | Err(_) => None,
        }
    }

    /// Seconds that so many bytes take there, and as many others back.
    fn round_trip(&mut self, bytes: &Bytes, way: Way) -> Result<f64, Box<dyn Error>> {
        let before = Instant::now();
        self.say(payload(bytes, way)?)?;
        let result = self.hear().ok_or("the relay has hung up")?.bytes()?;
        assert_eq!(sum(&result), 7 * bytes.len() as u64);
        Ok(before.elapsed().as_secs_f64())
    }
}
