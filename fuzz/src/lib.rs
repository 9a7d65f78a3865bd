//! What is done with hostile input: one function for each target, which panics if the input gets the
//! better of poold.
//!
//! ```text
//!   targets/NAME.rs (cargo-fuzz, without end) ──┐
//!                                               ├──> the function of that name, here
//!   ../tests/fuzz.rs (the ordinary suite)     ──┘
//! ```
//!
//! All of it goes through the public interface of the crate. `../tests/fuzz.rs` includes these files as
//! they are, so they name nothing of their own crate but by `super`.

mod arguments;
mod command;
pub mod config;
mod draw;
mod frames;
mod guard_record;
mod handshake;
mod messages;
mod names;
pub mod page;
mod supervisor;

pub use arguments::arguments;
pub use command::command;
pub use config::{config, settings};
pub use frames::frames;
pub use guard_record::guard_record;
pub use handshake::handshake;
pub use messages::{from_worker, reply, request, to_worker};
pub use names::names;
pub use page::page;
pub use supervisor::supervisor;

/// A function that is given hostile input.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also that of its corpus.
pub const TARGETS: [(&str, Target); 14] = [
    ("arguments", arguments),
    ("command", command),
    ("config", config),
    ("frames", frames),
    ("from_worker", from_worker),
    ("guard_record", guard_record),
    ("handshake", handshake),
    ("names", names),
    ("page", page),
    ("reply", reply),
    ("request", request),
    ("settings", settings),
    ("supervisor", supervisor),
    ("to_worker", to_worker),
];
