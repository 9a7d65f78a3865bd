//! The text of a name.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use crate::inline::InlineBytes;

/// A text that does not change. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Text(InlineBytes);

impl Text {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn as_str(&self) -> &str {
        // They were copied from a whole `str`.
        std::str::from_utf8(&self.0).expect("a text is UTF-8")
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Text(InlineBytes::from(text))
    }
}

// Texts are ordered by their bytes, as `str` is.

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
        for len in 0..50 {
            let whole = "é".repeat(len) + &"x".repeat(len % 3);
            let text = Text::from(whole.as_str());
            assert_eq!((text.as_str(), text.as_bytes()), (whole.as_str(), whole.as_bytes()));
            assert_eq!(text.clone().as_str(), whole);
        }
    }

    #[test]
    fn texts_are_ordered_as_their_strings_are_however_kept() {
        let long = "b".repeat(50);
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
