//! A process pool as a system service.
//!
//! `poold` keeps N worker processes alive, hands them tasks over local sockets, survives every one of
//! their deaths, and gives each caller exactly one outcome.
//!
//! ```text
//!  poolctl / library       daemon (one thread)                    worker (one process per slot)
//!  ┌──────────┐  frame   ┌─────────────────────────────┐  frame   ┌────────────────────────┐
//!  │  client  │ ───────> │ connection ──> Event        │          │ read frame             │
//!  │          │          │                 │           │          │   -> registry look-up  │
//!  │          │          │            supervisor       │ ───────> │   -> run, catch panic  │
//!  │          │ <─────── │ connection <── Action       │ <─────── │   -> publish outcome   │
//!  └──────────┘          └─────────────────────────────┘          └────────────────────────┘
//! ```
//!
//! # Reading order
//!
//! A file imports only from the rows above its own; parts on one row do not import each other.
//!
//! | row | what it holds |
//! | --- | --- |
//! | [`limits`], [`id`], [`time`], [`descriptor`] | every cap with its unit and reason; newtypes; time as a number; open files on their way |
//! | [`task`] | what is submitted, how it can end |
//! | [`message`] | what clients, daemon and workers say to each other |
//! | [`wire`], [`supervisor`], [`os`] | bytes to messages and back; every decision; every system call that needs `unsafe` |
//! | [`daemon`], [`worker`], [`client`] | the event loop; the runtime inside a worker process; the callers' side |
//!
//! The supervisor decides, the daemon does: [`supervisor::Supervisor`] is a pure state machine without
//! clock, socket, process or thread, so every race a pool can meet is replayed from a seed.

#![deny(missing_docs)]
#![warn(unreachable_pub)]

pub mod descriptor;
pub mod id;
pub mod limits;
pub mod task;
pub mod time;

pub mod message;

pub mod os;
pub mod supervisor;
pub mod wire;

pub mod client;
#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "daemon")]
pub mod worker;
