//! What a function takes and returns, in words: for listings, and for saying what was wrong with a call.

use std::any::type_name;
use std::fmt;

use serde::de::DeserializeOwned;

use super::arguments::{Arity, Mismatch};
use super::registry::RegisterError;
use crate::id::FunctionName;
use crate::task::{Failure, FailureKind};

/// Characters of an argument that are repeated in a message; it may be a whole file.
const SHOWN_CHARACTERS_MAX: usize = 80;

/// A function's name, parameters and result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signature {
    function: FunctionName,
    pub(super) arity: Arity,
    parameters: Vec<Parameter>,
    result: String,
}

/// A parameter: its name, and its type as far as that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parameter {
    name: String,
    type_name: Option<String>,
}

impl Signature {
    /// The signature of a function from `In` to `Out`, with a name for each parameter.
    pub(super) fn new<In: DeserializeOwned, Out>(
        function: FunctionName,
        names: &[&str],
    ) -> Result<Self, RegisterError> {
        let arity = Arity::of::<In>();
        let count = match arity {
            Arity::Exactly(count) => count,
            Arity::Any | Arity::One => 1,
        };
        if names.len() != count {
            return Err(RegisterError::ParameterNames { function, takes: count, names: names.len() });
        }
        let types = parameter_types(arity, &short_type_name(type_name::<In>()));
        let parameters = names.iter().enumerate().map(|(index, name)| Parameter {
            name: (*name).to_owned(),
            type_name: types.get(index).cloned(),
        });
        let parameters = parameters.collect();
        Ok(Signature { function, arity, parameters, result: short_type_name(type_name::<Out>()) })
    }

    /// The failure of a call with arguments that are not what the function takes.
    pub(super) fn refuse(&self, mismatch: Mismatch) -> Failure {
        let kind = match mismatch {
            Mismatch::Unmapped { .. } => FailureKind::Error,
            Mismatch::Count(_) | Mismatch::Argument { .. } | Mismatch::Whole(_) => FailureKind::BadArguments,
        };
        let function = &self.function;
        let parameters = self.parameters();
        let message = match mismatch {
            Mismatch::Count(count) => match self.arity {
                Arity::Exactly(0) => format!("{function} takes no arguments, got {count}"),
                Arity::Exactly(takes) => {
                    let takes = match self.required() {
                        required if required == takes => takes.to_string(),
                        required => format!("{required} to {takes}"),
                    };
                    format!("{function} takes {takes} arguments ({parameters}), got {count}")
                }
                Arity::One => format!("{function} takes 1 argument ({parameters}), got {count}"),
                Arity::Any => format!("{function} takes any number of arguments ({parameters}), got {count}"),
            },
            Mismatch::Argument { index, text, reason } => {
                let text = shown(&text);
                // The one parameter of a sequence stands for every argument.
                match self.parameters.get(index).filter(|_| self.parameters.len() > 1) {
                    Some(Parameter { name, .. }) => {
                        format!("{function} takes {parameters}; {text} is not valid for {name} ({reason})")
                    }
                    None => format!("{function} takes {parameters}; {text} is not one ({reason})"),
                }
            }
            Mismatch::Whole(reason) => {
                let parameters = if parameters.is_empty() { "no arguments" } else { &parameters };
                format!("{function} takes {parameters}; the arguments cannot be read: {reason}")
            }
            Mismatch::Unmapped { .. } => mismatch.to_string(),
        };
        Failure { kind, message: in_one_line(&message), location: None }
    }

    /// How many arguments cannot be left out.
    fn required(&self) -> usize {
        let is_optional = |parameter: &Parameter| {
            parameter.type_name.as_ref().is_some_and(|name| name.starts_with("Option<"))
        };
        self.parameters.iter().rposition(|parameter| !is_optional(parameter)).map_or(0, |last| last + 1)
    }

    /// The parameters with their types: `A: u64, B: u64`.
    fn parameters(&self) -> String {
        let parameters: Vec<String> = self.parameters.iter().map(Parameter::to_string).collect();
        let more = if self.arity == Arity::Any { "..." } else { "" };
        parameters.join(", ") + more
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}({})", self.function, self.parameters())?;
        if self.result == "()" { Ok(()) } else { write!(formatter, " -> {}", self.result) }
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.type_name {
            Some(type_name) => write!(formatter, "{}: {type_name}", self.name),
            None => formatter.write_str(&self.name),
        }
    }
}

/// `text`, cut to what a line can hold.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// `message`, which may repeat an argument as it came, without what ends a line or moves a cursor.
fn in_one_line(message: &str) -> String {
    let shown = |character: char| match character.is_control() {
        true => character.escape_debug().to_string(),
        false => character.to_string(),
    };
    message.chars().map(shown).collect()
}

/// A type's name without the modules it is in: `Vec<String>` for `alloc::vec::Vec<alloc::string::String>`.
fn short_type_name(full: &str) -> String {
    let is_path = |character: char| character.is_alphanumeric() || "_:".contains(character);
    let mut short = String::new();
    let mut rest = full;
    while let Some(start) = rest.find(is_path) {
        let end =
            rest[start..].find(|character| !is_path(character)).map_or(rest.len(), |length| start + length);
        let path = &rest[start..end];
        short.push_str(&rest[..start]);
        short.push_str(path.rsplit("::").next().unwrap_or(path));
        rest = &rest[end..];
    }
    short + rest
}

/// The types of the parameters that the type `input` stands for; fewer if its name does not tell them.
fn parameter_types(arity: Arity, input: &str) -> Vec<String> {
    let inside = |open: &str, close: &str| input.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
    match arity {
        Arity::One => vec![input.to_owned()],
        Arity::Any => inside("Vec<", ">").map(str::to_owned).into_iter().collect(),
        Arity::Exactly(count) => {
            if let Some(elements) = inside("(", ")") {
                split_list(elements)
            } else if let Some((element, _)) = inside("[", "]").and_then(|array| array.rsplit_once(';')) {
                vec![element.to_owned(); count]
            } else {
                Vec::new()
            }
        }
    }
}

/// The elements of a list of types, which may hold lists themselves.
fn split_list(list: &str) -> Vec<String> {
    let mut elements = Vec::new();
    let mut element = String::new();
    let mut depth = 0_usize;
    for character in list.chars() {
        match character {
            '(' | '[' | '<' => depth += 1,
            ')' | ']' | '>' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                elements.push(std::mem::take(&mut element).trim().to_owned());
                continue;
            }
            _ => {}
        }
        element.push(character);
    }
    // A tuple of one ends in a comma.
    if !element.trim().is_empty() {
        elements.push(element.trim().to_owned());
    }
    elements
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    fn text<In: DeserializeOwned, Out>(names: &[&str]) -> String {
        Signature::new::<In, Out>("f".parse().unwrap(), names).unwrap().to_string()
    }

    fn refusal<In: DeserializeOwned>(names: &[&str], mismatch: Mismatch) -> String {
        Signature::new::<In, ()>("f".parse().unwrap(), names).unwrap().refuse(mismatch).message
    }

    #[test]
    fn signature_shows_parameters_and_result() {
        assert_eq!(text::<u128, bool>(&["N"]), "f(N: u128) -> bool");
        assert_eq!(text::<(), ()>(&[]), "f()");
        assert_eq!(text::<(u64,), String>(&["A"]), "f(A: u64) -> String");
        assert_eq!(
            text::<(Vec<(u8, i8)>, Option<String>), Vec<String>>(&["A", "B"]),
            "f(A: Vec<(u8, i8)>, B: Option<String>) -> Vec<String>"
        );
        assert_eq!(text::<Vec<f64>, f64>(&["X"]), "f(X: f64...) -> f64");
        assert_eq!(text::<[u64; 2], ()>(&["A", "B"]), "f(A: u64, B: u64)");
    }

    #[test]
    fn type_that_hides_its_parts_shows_names_alone() {
        #[derive(Deserialize)]
        struct Pair(#[expect(dead_code, reason = "only its shape counts")] u64, #[expect(dead_code)] u64);
        assert_eq!(text::<Pair, ()>(&["A", "B"]), "f(A, B)");
    }

    #[test]
    fn names_that_do_not_fit_the_type_are_refused() {
        let error = Signature::new::<(u64, u64), ()>("f".parse().unwrap(), &["A"]).unwrap_err();
        assert_eq!(error.to_string(), "function `f` takes 2 arguments, and 1 parameter name is given");
    }

    #[test]
    fn wrong_count_says_what_is_taken() {
        assert_eq!(refusal::<u8>(&["N"], Mismatch::Count(2)), "f takes 1 argument (N: u8), got 2");
        assert_eq!(refusal::<()>(&[], Mismatch::Count(1)), "f takes no arguments, got 1");
        assert_eq!(
            refusal::<(u8, bool)>(&["A", "B"], Mismatch::Count(0)),
            "f takes 2 arguments (A: u8, B: bool), got 0"
        );
        assert_eq!(
            refusal::<(u8, Option<bool>)>(&["A", "B"], Mismatch::Count(0)),
            "f takes 1 to 2 arguments (A: u8, B: Option<bool>), got 0"
        );
    }

    #[test]
    fn wrong_argument_is_shown_with_its_parameter() {
        let wrong = |index| Mismatch::Argument { index, text: "\"x\"".to_owned(), reason: "why".to_owned() };
        assert_eq!(refusal::<u8>(&["N"], wrong(0)), "f takes N: u8; \"x\" is not one (why)");
        assert_eq!(refusal::<Vec<u8>>(&["N"], wrong(3)), "f takes N: u8...; \"x\" is not one (why)");
        assert_eq!(
            refusal::<(u8, bool)>(&["A", "B"], wrong(1)),
            "f takes A: u8, B: bool; \"x\" is not valid for B (why)"
        );
    }

    #[test]
    fn reason_that_repeats_an_argument_stays_in_its_line() {
        let reason = "unknown variant `a\n\u{1b}[2J`".to_owned();
        let wrong = Mismatch::Argument { index: 0, text: "x".to_owned(), reason };
        let told = r"f takes N: u8; x is not one (unknown variant `a\n\u{1b}[2J`)";
        assert_eq!(refusal::<u8>(&["N"], wrong), told);
    }

    #[test]
    fn long_argument_is_shown_in_part() {
        let text = "ä".repeat(SHOWN_CHARACTERS_MAX + 1);
        let wrong = Mismatch::Argument { index: 0, text, reason: "why".to_owned() };
        let shown = "ä".repeat(SHOWN_CHARACTERS_MAX);
        assert_eq!(refusal::<u8>(&["N"], wrong), format!("f takes N: u8; {shown}… is not one (why)"));
    }
}
