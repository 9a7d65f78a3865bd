//! The callers' side: an executor and its futures, and under them a connection to the daemon.
//!
//! ```text
//!   Executor ──submit, map──> Future, Map <── wait, as_completed      any number of threads
//!      └──> Exchange: the calls that are not answered, by request; those of a map as one Series
//!               └──> Connection ──┬── Sender    requests, numbered by the caller
//!                                 └── Receiver  replies, in the order they come
//! ```
//!
//! A [`Connection`] by itself blocks and has no thread: whoever holds the two halves decides who waits
//! where. Nothing here prints or exits.

mod arrivals;
mod call;
mod call_error;
mod callbacks;
mod connection;
mod ends;
mod error;
mod exchange;
mod executor;
mod future;
mod locate;
mod map;
mod outbox;
mod reading;
mod requests;
mod series;
mod stages;
mod template;
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
pub use map::{Map, MapOptions};
pub use waiting::{AsCompleted, ReturnWhen, Waited, as_completed, wait};
