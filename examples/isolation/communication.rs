//! Section 4: what it costs to reach somebody else, and to hand over what is large.

use std::error::Error;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use poold::Executor;
use poold::task::{Encoding, Payload};
use poold::worker::Registry;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::meeting::Meeting;
use crate::peer::{BYTES, PAGE_BYTES, Peer, Request, SERVE, sum_of_pages};
use crate::table::{self, Table, fastest, figure, median};
use crate::{ADD, Pools, add};

const FUNCTION_CALLS: u32 = 1_000_000;
const ROUND_TRIPS: u32 = 5_000;
const POOL_CALLS: u32 = 1_000;
/// In which these are timed.
const BATCHES: u32 = 100;

/// What one call carries inside its message: of a payload that is twice as large it carries the descriptor.
const CALL_BYTES: usize = 32 * 1024;
/// How often it is handed over each way.
const TIMES: usize = 5;

/// Sums up its bytes, as they came.
const SUM: &str = "sum";

pub(crate) fn register(registry: Registry) -> Registry {
    registry.register_raw(SUM, "sum(BYTES) -> u64", "Sums up bytes.", |payload| {
        let bytes = payload.bytes()?;
        let sum = sum_of_pages(&mut &bytes[..], bytes.len())?;
        Ok::<_, io::Error>(Payload::new(Encoding::Bytes, Bytes::copy_from_slice(&sum.to_le_bytes())))
    })
}

pub(crate) fn show(pools: &Pools) -> Result<(), Box<dyn Error>> {
    let meeting = Meeting::open()?;
    let serving = pools.processes.call(SERVE, Meeting::name())?;
    let streams = meeting.gather(1)?;
    let [stream] = &streams[..] else { return Err("one call came, and no other".into()) };
    let peer = Peer { stream };

    table::section(
        "4. Communication",
        "A function is called in no time. Another thread must be woken, another process be spoken to through \
         the kernel, and a pool has a supervisor in between. There and back:",
    );
    show_round_trips(pools, &peer)?;
    table::paragraph(&format!(
        "What is large need not be carried: where it lies in a memfd, its descriptor is enough. {} MiB from \
         this process to another, medians of {TIMES}:",
        BYTES >> 20
    ));
    show_large(&pools.processes, &peer)?;
    drop(streams);
    Ok(serving.result(None)?)
}

fn show_round_trips(pools: &Pools, peer: &Peer<'_>) -> Result<(), Box<dyn Error>> {
    let mut trips = vec![
        (
            "call of a function",
            micros_each(FUNCTION_CALLS, |number| {
                black_box(add(black_box((number.into(), 1))));
                Ok(())
            })?,
        ),
        ("thread, through a channel", micros_through_a_channel()?),
        (
            "process, through a socket",
            micros_each(ROUND_TRIPS, |_| Ok(peer.ask(Request::Echo, None, &[]).map(drop)?))?,
        ),
    ];
    for (name, pool) in pools.both() {
        let call = |number: u32| Ok(pool.call(ADD, (number.into(), 1))?.result(None).map(drop)?);
        trips.push((name, micros_each(POOL_CALLS, call)?));
    }
    let floor = fastest(&trips[0].1);
    let mut table = Table::new(&["", "µs: fastest", "median", "fastest, in calls of a function"]);
    for (name, micros) in trips {
        let fastest = fastest(&micros);
        table.row(&[&name, &figure(fastest), &figure(median(micros)), &format!("{:.0}", fastest / floor)]);
    }
    table.print();
    Ok(())
}

/// How long it takes to do something once, if it is done so often: the averages of batches, each of which is long
/// enough for the clock.
fn micros_each(
    times: u32,
    mut trip: impl FnMut(u32) -> Result<(), Box<dyn Error>>,
) -> Result<Vec<f64>, Box<dyn Error>> {
    let in_batch = times / BATCHES;
    let batches = (0..BATCHES).map(|_| {
        let before = Instant::now();
        (0..in_batch).try_for_each(&mut trip)?;
        Ok(before.elapsed().as_secs_f64() * 1e6 / f64::from(in_batch))
    });
    batches.collect()
}

fn micros_through_a_channel() -> Result<Vec<f64>, Box<dyn Error>> {
    let (ask, asked) = mpsc::channel();
    let (answer, answers) = mpsc::channel();
    // It ends when nobody asks any more.
    thread::spawn(move || asked.iter().try_for_each(|input| answer.send(add(input))));
    micros_each(ROUND_TRIPS, |number| {
        ask.send((number.into(), 1))?;
        answers.recv()?;
        Ok(())
    })
}

fn show_large(pool: &Executor, peer: &Peer<'_>) -> Result<(), Box<dyn Error>> {
    let bytes: Bytes = (0..BYTES).map(|at| (at / PAGE_BYTES) as u8).collect::<Vec<u8>>().into();
    let sum = sum_of_pages(&mut &bytes[..], BYTES)?;
    let memfd = memfd_of(&bytes)?;
    let mut table = Table::new(&["", "ms", "arrived"]);
    let mut row = |name: &str, expected: u64, hand_over: &dyn Fn() -> Result<u64, Box<dyn Error>>| {
        let (millis, sums) = repeat(hand_over)?;
        let arrived = if sums.iter().all(|sum| *sum == expected) { "whole" } else { "damaged" };
        table.row(&[&name, &figure(millis), &arrived]);
        Ok::<_, Box<dyn Error>>(())
    };
    row("copied into calls of 32 KiB", sum, &|| carry(pool, &bytes, CALL_BYTES))?;
    row("one call: put into a memfd, mapped", sum, &|| carry(pool, &bytes, BYTES))?;
    row("copied into a socket", sum, &|| Ok(peer.ask(Request::Copy, None, &bytes)?))?;
    row("passed as a memfd, and read there", sum, &|| Ok(peer.ask(Request::Read, Some(&memfd), &[])?))?;
    row("passed as a memfd", BYTES as u64, &|| Ok(peer.ask(Request::Keep, Some(&memfd), &[])?))?;
    table.print();
    let (millis, _) = repeat(&|| Ok(memfd_of(&bytes).map(|_| 0)?))?;
    table::paragraph(&format!("To write them into a memfd in the first place takes {} ms.", figure(millis)));
    Ok(())
}

/// The median of the milliseconds that it takes, and what came of it each time.
fn repeat(hand_over: &dyn Fn() -> Result<u64, Box<dyn Error>>) -> Result<(f64, Vec<u64>), Box<dyn Error>> {
    let (mut millis, mut sums) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let before = Instant::now();
        sums.push(hand_over()?);
        millis.push(before.elapsed().as_secs_f64() * 1e3);
    }
    Ok((median(millis), sums))
}

/// Has the pool sum up the bytes, so many in a call.
fn carry(pool: &Executor, bytes: &Bytes, call_bytes: usize) -> Result<u64, Box<dyn Error>> {
    let parts = (0..BYTES).step_by(call_bytes).map(|from| bytes.slice(from..from + call_bytes));
    let futures = parts
        .map(|part| pool.submit_payload(SUM, Payload::new(Encoding::Bytes, part)))
        .collect::<Result<Vec<_>, _>>()?;
    futures.into_iter().try_fold(0, |sum, future| {
        let part = future.result(None)?;
        Ok(sum + u64::from_le_bytes(part.bytes()?[..].try_into()?))
    })
}

/// Memory that has a descriptor, holds the bytes, and never changes again.
fn memfd_of(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("isolation", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.write_all(bytes)?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file.into())
}
