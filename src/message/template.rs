//! What is said to the template: which process it is to make of a copy of itself, and what became of it.

use serde::{Deserialize, Serialize};

use super::Message;
use crate::id::Pid;
use crate::task::Payload;

/// What a process is started with, as execve(2) would be told.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// What process listings show.
    pub title: String,
    /// The whole of its environment: names and values.
    pub environment: Vec<(Vec<u8>, Vec<u8>)>,
    /// No bytes; its standard input, output and error.
    pub files: Payload,
}

/// What became of it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied(
    /// Its process; or the number of the error (errno(3)) for which there is none.
    pub Result<Pid, i32>,
);

impl Message for Copy {
    fn payload(&self) -> Option<&Payload> {
        Some(&self.files)
    }

    fn payload_mut(&mut self) -> Option<&mut Payload> {
        Some(&mut self.files)
    }
}

impl Message for Copied {
    fn payload(&self) -> Option<&Payload> {
        None
    }

    fn payload_mut(&mut self) -> Option<&mut Payload> {
        None
    }
}
