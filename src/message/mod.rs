//! What clients, daemon and workers say to each other.
//!
//! A message has a head (the enum, encoded) and at most one [`Payload`], or [`Payloads`] of many tasks, whose bytes follow the
//! head as they are: the daemon forwards them and never reads them.

pub mod client;
pub mod command;
pub mod guard;
pub mod resources;
pub mod status;
pub mod template;
pub mod worker;

use serde::{Serialize, de::DeserializeOwned};

use crate::task::{Payload, Payloads};

/// Something that can be said on a socket.
pub trait Message: Serialize + DeserializeOwned {
    /// The payload that travels with it.
    fn payload(&self) -> Option<&Payload>;

    /// The payload that travels with it, to be filled in once its bytes are read.
    fn payload_mut(&mut self) -> Option<&mut Payload>;

    /// The payloads that travel with it, if it is one of those that say something of many tasks.
    fn payloads(&self) -> Option<&Payloads> {
        None
    }

    /// The payloads that travel with it, to be filled in once their bytes are read.
    fn payloads_mut(&mut self) -> Option<&mut Payloads> {
        None
    }
}
