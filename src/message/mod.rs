//! What clients, daemon and workers say to each other.
//!
//! A message has a head (the enum, encoded) and at most one [`Payload`], whose bytes follow the head as
//! they are: the daemon forwards them and never reads them.

pub mod client;
pub mod command;
pub mod guard;
pub mod resources;
pub mod status;
pub mod template;
pub mod worker;

use serde::{Serialize, de::DeserializeOwned};

use crate::task::Payload;

/// Something that can be said on a socket.
pub trait Message: Serialize + DeserializeOwned {
    /// The payload that travels with it.
    fn payload(&self) -> Option<&Payload>;

    /// The payload that travels with it, to be filled in once its bytes are read.
    fn payload_mut(&mut self) -> Option<&mut Payload>;
}
