//! Bytes of a payload that travel inside a frame: in place if they are few, as those of most tasks are, and shared
//! otherwise.
//!
//! Few bytes cost no allocation wherever they go; many only where they come from, not where they are cloned.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

/// Bytes that fit where the pointer to shared ones is, with their number.
const SHORT_BYTES_MAX: usize = 22;

/// Bytes that do not change. Cheap to clone.
#[derive(Clone)]
pub struct InlineBytes(Form);

#[derive(Clone)]
enum Form {
    Short { len: u8, bytes: [u8; SHORT_BYTES_MAX] },
    Long(Arc<Bytes>),
}

impl InlineBytes {
    /// None.
    pub const fn new() -> Self {
        InlineBytes(Form::Short { len: 0, bytes: [0; SHORT_BYTES_MAX] })
    }

    /// A copy of `bytes`.
    pub fn copy_from_slice(bytes: &[u8]) -> Self {
        InlineBytes::if_short(bytes).unwrap_or_else(|| InlineBytes::long(Bytes::copy_from_slice(bytes)))
    }

    /// The same bytes, as a type that can be cut into parts.
    pub fn to_bytes(&self) -> Bytes {
        match &self.0 {
            Form::Short { .. } => Bytes::copy_from_slice(self),
            Form::Long(bytes) => Bytes::clone(bytes),
        }
    }

    fn if_short(bytes: &[u8]) -> Option<Self> {
        let mut short = [0; SHORT_BYTES_MAX];
        short.get_mut(..bytes.len())?.copy_from_slice(bytes);
        // At most SHORT_BYTES_MAX.
        Some(InlineBytes(Form::Short { len: bytes.len() as u8, bytes: short }))
    }

    fn long(bytes: Bytes) -> Self {
        InlineBytes(Form::Long(Arc::new(bytes)))
    }
}

impl Deref for InlineBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Form::Short { len, bytes } => &bytes[..usize::from(*len)],
            Form::Long(bytes) => bytes,
        }
    }
}

impl Default for InlineBytes {
    fn default() -> Self {
        InlineBytes::new()
    }
}

impl From<Bytes> for InlineBytes {
    /// Many bytes are not copied.
    fn from(bytes: Bytes) -> Self {
        InlineBytes::if_short(&bytes).unwrap_or_else(|| InlineBytes::long(bytes))
    }
}

impl From<Vec<u8>> for InlineBytes {
    /// Many bytes are not copied.
    fn from(bytes: Vec<u8>) -> Self {
        InlineBytes::if_short(&bytes).unwrap_or_else(|| InlineBytes::long(bytes.into()))
    }
}

impl From<String> for InlineBytes {
    /// Many bytes are not copied.
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<&[u8]> for InlineBytes {
    fn from(bytes: &[u8]) -> Self {
        InlineBytes::copy_from_slice(bytes)
    }
}

impl<const LEN: usize> From<&[u8; LEN]> for InlineBytes {
    fn from(bytes: &[u8; LEN]) -> Self {
        InlineBytes::copy_from_slice(bytes)
    }
}

impl From<&str> for InlineBytes {
    fn from(text: &str) -> Self {
        InlineBytes::copy_from_slice(text.as_bytes())
    }
}

// Bytes are the same whether they are in place or not.

impl PartialEq for InlineBytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for InlineBytes {}

impl fmt::Debug for InlineBytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As text where they are text.
        write!(formatter, "b\"{}\"", self.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_any_number_are_what_they_were_made_of() {
        for len in 0..2 * SHORT_BYTES_MAX {
            let bytes: Vec<u8> = (0..len as u8).collect();
            let inline = InlineBytes::from(&bytes[..]);
            assert_eq!((&*inline, &*inline.to_bytes()), (&bytes[..], &bytes[..]));
            assert_eq!(inline.clone(), InlineBytes::from(bytes));
        }
    }

    #[test]
    fn many_bytes_are_shared_by_clones_and_not_copied() {
        let bytes = Bytes::from(vec![7; SHORT_BYTES_MAX + 1]);
        let inline = InlineBytes::from(bytes.clone());
        assert_eq!(inline.clone().as_ptr(), bytes.as_ptr());
        assert_eq!(inline.to_bytes().as_ptr(), bytes.as_ptr());
    }

    #[test]
    fn bytes_take_no_more_room_than_those_in_place_and_their_number() {
        assert_eq!(size_of::<InlineBytes>(), 24);
        assert_eq!(size_of::<Option<InlineBytes>>(), 24);
    }
}
