//! Functions that run a command: how the configuration writes them down, and what workers are told.
//!
//! A word of `exec` is a text in which `{0}` stands for the first argument, `{1}` for the second; the word
//! `{*}` stands for every argument from the first one on that is not named, a word for each. Nothing here
//! starts anything.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::FunctionName;
use crate::limits::COMMAND_ARGUMENTS_MAX;
use crate::message::resources::AttemptLimits;

/// A function that runs a command. It was checked where the configuration was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandSpec {
    /// Its name.
    pub name: FunctionName,
    /// What it does, in a sentence.
    pub summary: String,
    /// The program and its arguments, with placeholders.
    pub exec: Vec<String>,
    /// The argument that is written to its standard input instead.
    pub stdin: Option<u32>,
    /// Where it runs; by default where the daemon does.
    pub cwd: Option<String>,
    /// Variables added to its environment.
    pub env: BTreeMap<String, String>,
    /// The fewest arguments.
    pub args_min: u32,
    /// The most arguments.
    pub args_max: u32,
    /// A regular expression for each argument to match as a whole, the last one also for those after it;
    /// none if they may be anything.
    pub patterns: Vec<String>,
    /// Whether an argument may become an option of the program.
    pub options: bool,
    /// What its first process may use, and each that this one starts.
    pub limits: AttemptLimits,
}

/// How a command of the function `run` ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEnd {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// It could not be executed.
    NotStarted {
        /// Why, in one line.
        reason: String,
        /// Whether there is no such program.
        is_missing: bool,
    },
}

/// One word of a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// One word, put together from these.
    One(Vec<Part>),
    /// `{*}`: a word for each argument that is not named.
    Rest,
}

/// A part of a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// This.
    Text(String),
    /// The argument of that number, from 0.
    Argument(u32),
}

/// A word that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadWord {
    /// `{*}` inside of a word.
    #[error("`{{*}}` stands for any number of words and must be one by itself")]
    RestInside,
    /// An argument that nobody can give.
    #[error("`{{{0}}}` is beyond the last argument there can be, {{{last}}}", last = COMMAND_ARGUMENTS_MAX - 1)]
    NoSuchArgument(String),
}

impl Word {
    /// The word that `text` writes down.
    ///
    /// # Errors
    /// [`BadWord`]. Braces around anything but a number or `*` are no placeholder, and stay.
    pub fn parse(text: &str) -> Result<Self, BadWord> {
        if text == "{*}" {
            return Ok(Word::Rest);
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(start) = rest.find('{') {
            let inside = rest[start + 1..].split_once('}').map(|(inside, _)| inside);
            literal.push_str(&rest[..start]);
            rest = &rest[start..];
            match inside {
                Some("*") => return Err(BadWord::RestInside),
                Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                    let number = digits.parse().ok().filter(|number| *number < COMMAND_ARGUMENTS_MAX);
                    let number = number.ok_or_else(|| BadWord::NoSuchArgument(digits.to_owned()))?;
                    if !literal.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut literal)));
                    }
                    parts.push(Part::Argument(number));
                    rest = &rest[digits.len() + 2..];
                }
                Some(_) | None => {
                    literal.push('{');
                    rest = &rest[1..];
                }
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() || parts.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Word::One(parts))
    }

    /// The numbers of the arguments in it.
    pub fn arguments(&self) -> impl Iterator<Item = u32> {
        let parts = match self {
            Word::One(parts) => parts.as_slice(),
            Word::Rest => &[],
        };
        parts.iter().filter_map(|part| match part {
            Part::Argument(number) => Some(*number),
            Part::Text(_) => None,
        })
    }

    /// Whether it is the same whatever the arguments.
    pub fn is_fixed(&self) -> bool {
        matches!(self, Word::One(parts) if parts.iter().all(|part| matches!(part, Part::Text(_))))
    }

    /// Whether an argument decides if it is an option: nothing but dashes stands before its first argument.
    pub fn is_open(&self) -> bool {
        match self {
            Word::Rest => true,
            Word::One(parts) => match parts.as_slice() {
                [Part::Argument(_), ..] => true,
                [Part::Text(text), Part::Argument(_), ..] => text.bytes().all(|byte| byte == b'-'),
                _ => false,
            },
        }
    }
}

impl CommandSpec {
    /// The words of its `exec`.
    ///
    /// # Errors
    /// [`BadWord`] with the number of the word, from 0.
    pub fn words(&self) -> Result<Vec<Word>, (usize, BadWord)> {
        let parse = |(index, text): (usize, &String)| Word::parse(text).map_err(|error| (index, error));
        self.exec.iter().enumerate().map(parse).collect()
    }

    /// The arguments that have a place of their own, as a word or as standard input.
    pub fn named(&self, words: &[Word]) -> BTreeSet<u32> {
        words.iter().flat_map(Word::arguments).chain(self.stdin).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Part {
        Part::Text(text.to_owned())
    }

    #[test]
    fn word_is_taken_apart_at_its_placeholders() {
        let word = Word::parse("a{0}{12}b").expect("it is one");
        assert_eq!(word, Word::One(vec![text("a"), Part::Argument(0), Part::Argument(12), text("b")]));
        assert_eq!(Word::parse("{*}"), Ok(Word::Rest));
        assert_eq!(Word::parse(""), Ok(Word::One(vec![text("")])));
    }

    #[test]
    fn other_braces_stay_as_they_are() {
        for literal in ["{}", "{print $1}", "{a}", "{", "}", "{-1}", "{ 0}", "{{", "{é}"] {
            assert_eq!(Word::parse(literal), Ok(Word::One(vec![text(literal)])), "{literal}");
        }
        let nested = Word::parse("{{0}}").expect("it is one");
        assert_eq!(nested, Word::One(vec![text("{"), Part::Argument(0), text("}")]));
    }

    #[test]
    fn word_that_cannot_be_is_refused() {
        assert_eq!(Word::parse("x{*}"), Err(BadWord::RestInside));
        for beyond in ["{1024}", "{99999999999999999999}"] {
            assert!(matches!(Word::parse(beyond), Err(BadWord::NoSuchArgument(_))), "{beyond}");
        }
    }

    #[test]
    fn word_is_open_when_an_argument_decides_whether_it_is_an_option() {
        for open in ["{0}", "{0}.png", "{*}", "-{0}", "--{0}"] {
            assert!(Word::parse(open).expect("it is one").is_open(), "{open}");
        }
        for closed in ["-q{0}", "--size={0}", "./{0}", "x", "", "-"] {
            assert!(!Word::parse(closed).expect("it is one").is_open(), "{closed}");
        }
    }
}
