//! The text of a name: in place if it is short, as nearly all are, and shared otherwise.
//!
//! A short name costs no allocation wherever it goes; a long one only where it is made, not where it is cloned.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Bytes that fit where the pointer to a shared text is, with their number.
const SHORT_BYTES_MAX: usize = 22;

/// A text that does not change. Cheap to clone.
#[derive(Clone)]
pub(super) struct Text(Form);

#[derive(Clone)]
enum Form {
    Short { len: u8, bytes: [u8; SHORT_BYTES_MAX] },
    Long(Arc<str>),
}

impl Text {
    pub(super) fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Form::Short { len, bytes } => &bytes[..usize::from(*len)],
            Form::Long(text) => text.as_bytes(),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        match &self.0 {
            Form::Short { .. } => {
                // They were copied from a whole `str`.
                std::str::from_utf8(self.as_bytes()).expect("a text is UTF-8")
            }
            Form::Long(text) => text,
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        let mut bytes = [0; SHORT_BYTES_MAX];
        match bytes.get_mut(..text.len()) {
            Some(start) => {
                start.copy_from_slice(text.as_bytes());
                // At most SHORT_BYTES_MAX.
                Text(Form::Short { len: text.len() as u8, bytes })
            }
            None => Text(Form::Long(Arc::from(text))),
        }
    }
}

// Texts are told apart and ordered by their bytes, as `str` is: how they are kept does not matter.

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_any_length_is_what_it_was_made_of() {
        for len in 0..2 * SHORT_BYTES_MAX {
            let whole = "é".repeat(len) + &"x".repeat(len % 3);
            let text = Text::from(whole.as_str());
            assert_eq!((text.as_str(), text.as_bytes()), (whole.as_str(), whole.as_bytes()));
            assert_eq!(text.clone().as_str(), whole);
        }
    }

    #[test]
    fn texts_are_ordered_as_their_strings_are_however_kept() {
        let long = "b".repeat(SHORT_BYTES_MAX + 1);
        let strings = ["", "a", "ab", "b", &long, "c"];
        for one in strings {
            for other in strings {
                let texts = (Text::from(one), Text::from(other));
                assert_eq!(texts.0.cmp(&texts.1), one.cmp(other), "{one:?} {other:?}");
                assert_eq!(texts.0 == texts.1, one == other, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn text_takes_no_more_than_its_bytes_and_their_number() {
        assert_eq!(size_of::<Text>(), 24);
        assert_eq!(size_of::<Option<Text>>(), 24);
    }
}
