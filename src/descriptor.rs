//! Open files on their way from one process to another, beside the bytes of a payload.
//!
//! They travel by SCM_RIGHTS (unix(7)) with the first byte of a frame; the message in it says how many
//! there are. Nobody on the way looks at them; the last who holds them closes them.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The descriptors of one payload.
#[derive(Clone, Debug, Default)]
pub struct Descriptors {
    /// As the message says it.
    count: u32,
    /// None while they are not taken out of what was received, and where there are none.
    files: Option<Arc<Vec<OwnedFd>>>,
}

impl Descriptors {
    /// How many there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Themselves.
    pub fn files(&self) -> &[OwnedFd] {
        self.files.as_ref().map_or(&[], |files| files.as_slice())
    }

    /// Themselves, if nobody else holds them.
    pub fn into_files(self) -> Option<Vec<OwnedFd>> {
        self.files.map_or(Some(Vec::new()), Arc::into_inner)
    }

    /// A way to know how many of them are still held by anyone in this process.
    pub fn watch(&self) -> Watch {
        Watch(self.files.as_ref().map_or_else(Weak::new, Arc::downgrade))
    }
}

/// The descriptors of one payload, as seen by somebody who does not hold them.
#[derive(Clone, Debug)]
pub struct Watch(Weak<Vec<OwnedFd>>);

impl Watch {
    /// How many of them anyone in this process still holds.
    pub fn held(&self) -> usize {
        self.0.upgrade().map_or(0, |files| files.len())
    }
}

impl From<Vec<OwnedFd>> for Descriptors {
    fn from(files: Vec<OwnedFd>) -> Self {
        // A process has far fewer than 2^32.
        let count = files.len() as u32;
        Descriptors { count, files: (count > 0).then(|| Arc::new(files)) }
    }
}

impl PartialEq for Descriptors {
    /// Whether they are the same, which copies of the same file are not.
    fn eq(&self, other: &Self) -> bool {
        let same_files = match (&self.files, &other.files) {
            (Some(files), Some(others)) => Arc::ptr_eq(files, others),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        self.count == other.count && same_files
    }
}

impl Eq for Descriptors {}

impl Serialize for Descriptors {
    /// How many there are: they themselves are no part of a message.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.count.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Descriptors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Descriptors { count: u32::deserialize(deserializer)?, files: None })
    }
}
