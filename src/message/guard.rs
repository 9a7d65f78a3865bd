//! What is said to the guard: which processes exist that must not outlive their worker or the daemon.
//!
//! Records of one size, on one pipe that the daemon, its workers and the commands they start write to. A
//! write this short is never mixed with another (PIPE_BUF, pipe(7)).

use crate::id::Pid;

/// Bytes in a record.
pub const RECORD_BYTES: usize = 9;

/// A fact about a process group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// The daemon started a worker, which leads a group.
    WorkerStarted {
        /// Its process.
        worker: Pid,
    },
    /// A worker's process has ended and its own group was killed: what it had registered is to end too.
    WorkerEnded {
        /// Its process.
        worker: Pid,
    },
    /// A command is about to run. It says so itself, as the leader of its group.
    GroupStarted {
        /// The worker that runs it.
        worker: Pid,
        /// Its process.
        group: Pid,
    },
    /// A command has ended, its group was killed, and its process will be reaped.
    GroupEnded {
        /// The worker that ran it.
        worker: Pid,
        /// Its process.
        group: Pid,
    },
}

impl Record {
    /// Its bytes. Allocates nothing: a process says it between fork and exec.
    pub fn encode(self) -> [u8; RECORD_BYTES] {
        let (tag, worker, group) = match self {
            Record::WorkerStarted { worker } => (1, worker, Pid(0)),
            Record::WorkerEnded { worker } => (2, worker, Pid(0)),
            Record::GroupStarted { worker, group } => (3, worker, group),
            Record::GroupEnded { worker, group } => (4, worker, group),
        };
        let ([w0, w1, w2, w3], [g0, g1, g2, g3]) = (worker.0.to_le_bytes(), group.0.to_le_bytes());
        [tag, w0, w1, w2, w3, g0, g1, g2, g3]
    }

    /// The record in `bytes`; nothing if they are none.
    pub fn decode(bytes: [u8; RECORD_BYTES]) -> Option<Self> {
        let [tag, w0, w1, w2, w3, g0, g1, g2, g3] = bytes;
        let worker = Pid(u32::from_le_bytes([w0, w1, w2, w3]));
        let group = Pid(u32::from_le_bytes([g0, g1, g2, g3]));
        match tag {
            1 => Some(Record::WorkerStarted { worker }),
            2 => Some(Record::WorkerEnded { worker }),
            3 => Some(Record::GroupStarted { worker, group }),
            4 => Some(Record::GroupEnded { worker, group }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_survives_the_pipe() {
        let (worker, group) = (Pid(0x0102_0304), Pid(u32::MAX));
        for record in [
            Record::WorkerStarted { worker },
            Record::WorkerEnded { worker },
            Record::GroupStarted { worker, group },
            Record::GroupEnded { worker, group },
        ] {
            assert_eq!(Record::decode(record.encode()), Some(record));
        }
    }

    #[test]
    fn bytes_that_are_no_record_are_none() {
        assert_eq!(Record::decode([0; RECORD_BYTES]), None);
        assert_eq!(Record::decode([5; RECORD_BYTES]), None);
    }
}
