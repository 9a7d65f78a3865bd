//! Names and ids as people write them: taken as they are, or refused in one line.

use std::fmt::Display;

use poold::id::{FunctionName, PoolName, TaskId};

/// A name or an id.
pub fn names(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match text.parse::<TaskId>() {
        Ok(task) => assert_eq!(task.to_string().parse(), Ok(task)),
        Err(error) => is_one_line(&error),
    }
    match FunctionName::new(&text) {
        Ok(name) => assert_eq!(name.as_str(), text),
        Err(error) => is_one_line(&error),
    }
    match PoolName::new(&text) {
        Ok(name) => assert_eq!(name.as_str(), text),
        Err(error) => is_one_line(&error),
    }
}

/// Nothing that is said to people is more than a line.
pub fn is_one_line(message: &impl Display) {
    let message = message.to_string();
    assert!(!message.contains(char::is_control), "more than a line: {message:?}");
}
