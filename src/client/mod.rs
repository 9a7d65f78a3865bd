//! The callers' side: a connection to the daemon, as a program that submits tasks sees it.
//!
//! ```text
//!   locate ──paths──> Connection ──┬── Sender    requests, numbered by the caller
//!                                  └── Receiver  replies, in the order they come
//! ```
//!
//! Blocking, without a thread of its own: whoever holds the two halves decides who waits where. Nothing
//! here prints, exits or decides what a task's outcome means.

mod arrivals;
mod call;
mod call_error;
mod callbacks;
mod connection;
mod error;
mod exchange;
mod executor;
mod future;
mod locate;
mod outbox;
mod typed;
mod until;
mod values;
mod waiting;

pub use call_error::{CallError, CallErrorKind};
pub use connection::{Connection, Receiver, Sender};
pub use error::{Access, Error, Tried};
pub use executor::Executor;
pub use future::Future;
pub use locate::socket_paths;
pub use waiting::{AsCompleted, ReturnWhen, Waited, as_completed, wait};
