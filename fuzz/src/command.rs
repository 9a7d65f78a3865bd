//! The words of a command line, as the configuration writes them.

use poold::limits::COMMAND_ARGUMENTS_MAX;
use poold::message::command::{Part, Word};

use super::names::is_one_line;

/// A word with placeholders.
pub fn command(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let word = match Word::parse(&text) {
        Ok(word) => word,
        Err(error) => return is_one_line(&error),
    };
    assert!(word.arguments().all(|number| number < COMMAND_ARGUMENTS_MAX));
    assert_eq!(word.is_fixed(), word == Word::One(vec![Part::Text(text.to_string())]));
    assert!(!(word.is_fixed() && word.is_open()), "no argument decides what there is none in");
    assert_eq!(Word::parse(&written(&word)), Ok(word));
}

fn written(word: &Word) -> String {
    let part = |part: &Part| match part {
        Part::Text(text) => text.clone(),
        Part::Argument(number) => format!("{{{number}}}"),
    };
    match word {
        Word::Rest => "{*}".to_owned(),
        Word::One(parts) => parts.iter().map(part).collect(),
    }
}
