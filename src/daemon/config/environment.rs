//! The keys that say what is in a worker's environment.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use super::section::{Mistake, Section, Word};
use crate::limits;

/// Variables that are the daemon's own and that no worker has, by how they start.
const RESERVED_VARIABLES: [&str; 4] = ["POOLD_", "LISTEN_", "WATCHDOG_", "NOTIFY_SOCKET"];

/// Which of the daemon's variables its workers inherit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentPass(Vec<String>);

impl EnvironmentPass {
    /// Those of these names; one that ends in `*` is every name that starts like it.
    pub fn new(names: Vec<String>) -> Self {
        EnvironmentPass(names)
    }

    /// All but the daemon's own.
    pub fn everything() -> Self {
        EnvironmentPass(vec!["*".to_owned()])
    }

    /// Whether the variable of that name is inherited.
    pub fn has(&self, name: &OsStr) -> bool {
        let name = name.as_bytes();
        let is_reserved = RESERVED_VARIABLES.iter().any(|reserved| name.starts_with(reserved.as_bytes()));
        let is_named = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start.as_bytes()),
            None => name == pattern.as_bytes(),
        };
        !is_reserved && self.0.iter().any(is_named)
    }
}

impl Default for EnvironmentPass {
    fn default() -> Self {
        EnvironmentPass(limits::ENV_PASS.map(str::to_owned).into())
    }
}

impl fmt::Display for EnvironmentPass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0[..] {
            [] => formatter.write_str("none"),
            _ => formatter.write_str(&self.0.join(", ")),
        }
    }
}

/// The variables to be inherited.
pub(super) fn pass(section: &mut Section<'_>) -> Result<Option<EnvironmentPass>, Mistake> {
    let takes = r#"a list of variables such as ["PATH", "LC_*"]"#;
    let Some(words) = section.list("env_pass", takes)? else { return Ok(None) };
    let names = words.into_iter().map(|Word { offset, text }| {
        let start = text.strip_suffix('*').unwrap_or(&text);
        if text.is_empty() || start.contains('*') {
            let shown = text.escape_debug();
            let message =
                format!("`{shown}` is not a variable's name, nor the start of one with a `*` at its end");
            return Err(Mistake::new(offset, message));
        }
        check_name(offset, start)?;
        Ok(text)
    });
    names.collect::<Result<_, Mistake>>().map(|names| Some(EnvironmentPass(names)))
}

/// Variables for a process, with their values.
pub(super) fn added(section: Section<'_>) -> Result<BTreeMap<String, String>, Mistake> {
    let variables = section.texts_by_name()?.into_iter().map(|(name, value)| {
        let Word { offset, text: variable } = name;
        if variable.is_empty() {
            return Err(not_a_name(offset, &variable));
        }
        check_name(offset, &variable)?;
        Ok((variable, value))
    });
    variables.collect()
}

fn check_name(offset: usize, variable: &str) -> Result<(), Mistake> {
    if variable.contains(['=', '\0']) {
        return Err(not_a_name(offset, variable));
    }
    if RESERVED_VARIABLES.iter().any(|reserved| variable.starts_with(reserved)) {
        let shown = variable.escape_debug();
        let message = format!("`{shown}` is taken out of every worker's environment; choose another name");
        return Err(Mistake::new(offset, message));
    }
    Ok(())
}

fn not_a_name(offset: usize, variable: &str) -> Mistake {
    let shown = variable.escape_debug();
    let message = format!("`{shown}` is not a variable's name; it takes characters other than `=`");
    Mistake::new(offset, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(patterns: &[&str], name: &str) -> bool {
        EnvironmentPass(patterns.iter().map(|pattern| (*pattern).to_owned()).collect()).has(OsStr::new(name))
    }

    #[test]
    fn variable_is_inherited_by_its_name_or_its_start() {
        assert!(passes(&["TZ", "PATH"], "PATH"));
        assert!(!passes(&["PATH"], "PATHS"));
        assert!(!passes(&["PATHS"], "PATH"));
        assert!(passes(&["LC_*"], "LC_ALL"));
        assert!(!passes(&["LC_*"], "LANG"));
        assert!(passes(&["*"], "TOKEN"));
        assert!(!passes(&[], "PATH"));
    }

    #[test]
    fn daemons_own_variables_are_never_inherited() {
        for name in ["NOTIFY_SOCKET", "LISTEN_FDS", "WATCHDOG_USEC", "POOLD_SOCKET"] {
            assert!(!EnvironmentPass::everything().has(OsStr::new(name)), "{name}");
        }
    }
}
