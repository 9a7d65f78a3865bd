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
//! | [`limits`], [`inline`] | every cap with its unit and reason; bytes that are cheap to clone |
//! | [`id`], [`time`], `numbers`, [`descriptor`], [`memory`] | newtypes; time as a number; what numbers stand for; open files on their way; memory that is shared |
//! | [`task`], [`Function`] | what is submitted, how it can end; a function's name and types |
//! | [`message`] | what clients, daemon and workers say to each other |
//! | [`wire`], [`supervisor`], `os` | bytes to messages and back; every decision; every system call that needs `unsafe` |
//! | `line`, [`SharedBuffer`] | how a function that runs reaches the daemon; big payloads from both ends |
//! | [`daemon`], [`worker`], [`client`] | the event loop; the runtime inside a worker process; the callers' side |
//! | [`init`], [`PoolOptions`] | a program that runs its own functions |
//!
//! The supervisor decides, the daemon does: [`supervisor::Supervisor`] is a pure state machine without
//! clock, socket, process or thread, so every race a pool can meet is replayed from a seed. Both, and the
//! worker's runtime, come with the feature `daemon`; a program that only submits tasks does without.

#![deny(missing_docs)]
#![warn(unreachable_pub)]

pub mod descriptor;
pub mod id;
pub mod inline;
pub mod limits;
pub mod memory;
pub mod task;
pub mod time;

mod function;
mod numbers;

pub mod message;

mod os;
#[cfg(feature = "daemon")]
pub mod supervisor;
pub mod wire;

#[cfg_attr(not(feature = "daemon"), allow(dead_code, reason = "workers alone provide lines"))]
mod line;
mod shared;

pub mod client;
#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "daemon")]
pub mod worker;

#[cfg(feature = "daemon")]
mod program;

pub use client::{
    AsCompleted, CallError, CallErrorKind, Executor, Future, Map, MapOptions, ReturnWhen, Waited,
    as_completed, wait,
};
pub use function::Function;
/// For `fuzz/`, which plays the worker at the page's other end: no part of the interface.
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub use os::page;
#[cfg(feature = "daemon")]
pub use program::{PoolOptions, PrivateError, fork_template, init};
pub use shared::SharedBuffer;

/// The examples of the README, compiled with those of the documentation.
#[cfg(all(doctest, feature = "daemon"))]
#[doc = include_str!("../README.md")]
struct Readme;
