//! The table `[access]`: who may do what. Names become numbers here, once, when the file is read.

use std::collections::BTreeSet;

use super::accounts::{group_id, user_id};
use super::section::{Mistake, Section, Word};
use crate::id::{FunctionName, Gid, Uid};
use crate::supervisor::{Access, Who};

/// In place of a name: everyone; in place of a function: those that have no line of their own.
const ALL: &str = "*";

/// What stands before the name of a group.
const GROUP_MARK: char = '@';

/// What a list of names takes.
const NAMES_TAKE: &str = r#"a list of users and groups such as ["alice", "@staff"], or ["*"] for everyone"#;

/// Reads the table; what it leaves out is as in `default`.
pub(super) fn access(mut section: Section<'_>, default: Access) -> Result<Access, Mistake> {
    let connect = section.list("connect", NAMES_TAKE)?.map(who).transpose()?;
    let administer = section.list("administer", NAMES_TAKE)?.map(who).transpose()?;
    let mut access = Access {
        connect: connect.unwrap_or(default.connect),
        administer: administer.unwrap_or(default.administer),
        ..default
    };
    for (function, names) in section.section("run")?.lists_by_name(NAMES_TAKE)? {
        let who = who(names)?;
        if function.text == ALL {
            access.run_others = who;
            continue;
        }
        let name = FunctionName::new(&function.text)
            .map_err(|error| Mistake::new(function.offset, error.to_string()))?;
        access.run.insert(name, who);
    }
    section.finish()?;
    Ok(access)
}

fn who(names: Vec<Word>) -> Result<Who, Mistake> {
    let (mut users, mut groups) = (BTreeSet::<Uid>::new(), BTreeSet::<Gid>::new());
    let mut is_everyone = false;
    for Word { offset, text } in names {
        let unknown = |what: &str, name: &str, file: &str| {
            let name = name.escape_debug();
            let message =
                format!("there is no {what} `{name}` in {file}; correct the name, or give its number");
            Mistake::new(offset, message)
        };
        match text.strip_prefix(GROUP_MARK) {
            _ if text == ALL => is_everyone = true,
            Some(name) => {
                groups.insert(group_id(name).ok_or_else(|| unknown("group", name, "/etc/group"))?);
            }
            None => {
                users.insert(user_id(&text).ok_or_else(|| unknown("user", &text, "/etc/passwd"))?);
            }
        }
    }
    Ok(if is_everyone { Who::Everyone } else { Who::Listed { users, groups } })
}
