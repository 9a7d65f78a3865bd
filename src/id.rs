//! Newtypes for everything that is counted, so that one can never be taken for another.

mod text;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use text::Text;

use crate::limits::{FUNCTION_NAME_BYTES_MAX, POOL_NAME_BYTES_MAX};

/// Characters of a wrong name or id that are repeated in the message about it.
const SHOWN_CHARACTERS_MAX: usize = 64;

/// The name of the function that `poolctl run` calls.
pub const RUN_FUNCTION: &str = "run";

/// A random number drawn once per start of a daemon, so that ids of two starts never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u32);

/// The id of a task: the daemon's epoch and a counter. Written `5f3a91c2-17` (epoch in hexadecimal), in
/// JSON too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// Which start of the daemon accepted the task.
    pub epoch: Epoch,
    /// Counts from 1 within the epoch.
    pub number: u64,
}

impl TaskId {
    /// The id whose number is so many further on.
    pub fn plus(self, count: u64) -> Self {
        TaskId { number: self.number.wrapping_add(count), ..self }
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:08x}-{}", self.epoch.0, self.number)
    }
}

/// A text that is not the id of a task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a task id; one looks like 5f3a91c2-17")]
pub struct NotATaskId(String);

impl FromStr for TaskId {
    type Err = NotATaskId;

    fn from_str(text: &str) -> Result<Self, NotATaskId> {
        let parse = || {
            let (epoch, number) = text.split_once('-')?;
            if epoch.len() != 8 || !epoch.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return None;
            }
            if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            Some(TaskId { epoch: Epoch(u32::from_str_radix(epoch, 16).ok()?), number: number.parse().ok()? })
        };
        parse().ok_or_else(|| NotATaskId(shown(text)))
    }
}

impl Serialize for TaskId {
    /// The written form where people read it, the two numbers on the wire.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            (self.epoch, self.number).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for TaskId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
        } else {
            let (epoch, number) = Deserialize::deserialize(deserializer)?;
            Ok(TaskId { epoch, number })
        }
    }
}

/// A client's connection. Never reused within an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A number that a client gives to a request; every reply to it carries the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

impl RequestId {
    /// The number so many further on; after the last one comes 0.
    pub fn plus(self, count: u64) -> Self {
        RequestId(self.0.wrapping_add(count))
    }
}

/// A user of the system, by the peer credentials of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Uid(pub u32);

/// A group of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gid(pub u32);

/// Who a peer is, by the kernel's word at the time it connected. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Its user.
    pub user: Uid,
    /// Its groups, the primary one and the supplementary ones.
    pub groups: Arc<[Gid]>,
}

impl From<Uid> for Credentials {
    /// A user in no group.
    fn from(user: Uid) -> Self {
        Credentials { user, groups: Arc::default() }
    }
}

/// A worker's place in a pool. Never reused within an epoch; it outlives the processes that fill it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SlotId(pub u32);

/// How many processes a slot had before this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Generation(pub u64);

/// A worker process: its slot and its generation, so that word from a dead process is never taken for
/// its successor's. Written `3.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkerId {
    /// The place.
    pub slot: SlotId,
    /// Which of the processes that filled it.
    pub generation: Generation,
}

impl fmt::Display for WorkerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.slot.0, self.generation.0)
    }
}

/// An attempt that a worker was sent: counts from 1 for each worker process, in the order of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptId(pub u64);

impl AttemptId {
    /// The number so many further on.
    pub fn plus(self, count: u64) -> Self {
        AttemptId(self.0.wrapping_add(count))
    }
}

/// A process id as the system gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pid(pub u32);

/// A name that is empty, too long, or holds a character that names do not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a {what} name: it takes 1 to {bytes_max} characters out of {characters}")]
pub struct BadName {
    what: &'static str,
    name: String,
    bytes_max: usize,
    characters: &'static str,
}

/// The start of a text that may hold anything, for a message of one line.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARACTERS_MAX).flat_map(char::escape_debug).collect()
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $bytes_max:expr, $characters:literal, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Text);

        impl $type {
            /// The name, checked.
            ///
            /// # Errors
            /// [`BadName`] when it is empty, too long, or holds another character.
            pub fn new(name: &str) -> Result<Self, BadName> {
                if name.is_empty() || name.len() > $bytes_max || !name.bytes().all($allowed) {
                    return Err(BadName {
                        what: $what,
                        name: shown(name),
                        bytes_max: $bytes_max,
                        characters: $characters,
                    });
                }
                Ok($type(Text::from(name)))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl FromStr for $type {
            type Err = BadName;
            fn from_str(name: &str) -> Result<Self, BadName> {
                $type::new(name)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.as_str().to_owned()
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Checked;

                impl Visitor<'_> for Checked {
                    type Value = $type;

                    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                        formatter.write_str(concat!("a ", $what, " name"))
                    }

                    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<$type, E> {
                        $type::new(name).map_err(E::custom)
                    }
                }

                deserializer.deserialize_str(Checked)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.debug_tuple(stringify!($type)).field(&self.as_str()).finish()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }
    };
}

name!(
    /// The name of a function: what a client asks for and a worker has.
    FunctionName,
    "function",
    FUNCTION_NAME_BYTES_MAX,
    "A-Z a-z 0-9 _ - . : /",
    |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:/".contains(&byte)
);

name!(
    /// The name of a pool, as the configuration gives it.
    PoolName,
    "pool",
    POOL_NAME_BYTES_MAX,
    "A-Z a-z 0-9 _ -",
    |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_id_or_name_is_told_in_one_short_line() {
        let text = format!("a\n\u{1b}[2J{}", "x".repeat(1000));
        let told = [
            text.parse::<TaskId>().expect_err("it is no id").to_string(),
            FunctionName::new(&text).expect_err("it is no name").to_string(),
            PoolName::new(&text).expect_err("it is no name").to_string(),
        ];
        for message in told {
            assert!(!message.contains(char::is_control) && message.len() < 200, "{message:?}");
        }
    }
}
