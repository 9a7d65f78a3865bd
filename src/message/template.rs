//! What is said to the template: what its copies have in common, which process it is to make of one, and what became of
//! it.

use serde::{Deserialize, Serialize};

use super::Message;
use crate::id::Pid;
use crate::task::Payload;

/// What the template is told to do.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// To take on what all copies from here on have in common. Said once.
    Confine(Common),
    /// To make a copy. The bytes are a [`Start`], in shared memory, which the copy alone reads: what the template has
    /// read is in all copies from there on. With them come its standard input, output and error.
    Copy(Payload),
}

/// What copies have in common.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Common {
    /// The filter of their system calls, as seccomp(2) takes it. None: they are not filtered.
    pub filter: Vec<Instruction>,
    /// No bytes; the pipe on which the guard is told of what they start.
    pub guard: Payload,
}

/// An instruction of a filter: struct sock_filter of linux/filter.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    /// What it does.
    pub code: u16,
    /// How many instructions are skipped if a comparison holds.
    pub jump_if_true: u8,
    /// How many if it does not.
    pub jump_if_false: u8,
    /// Its constant.
    pub constant: u32,
}

/// What a process is started with, as execve(2) would be told.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// What process listings show.
    pub title: String,
    /// The whole of its environment: names and values.
    pub environment: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What became of it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied(
    /// Its process; or the number of the error (errno(3)) for which there is none.
    pub Result<Pid, i32>,
);

impl Message for Order {
    fn payload(&self) -> Option<&Payload> {
        match self {
            Order::Confine(common) => Some(&common.guard),
            Order::Copy(start) => Some(start),
        }
    }

    fn payload_mut(&mut self) -> Option<&mut Payload> {
        match self {
            Order::Confine(common) => Some(&mut common.guard),
            Order::Copy(start) => Some(start),
        }
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
