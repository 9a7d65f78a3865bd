//! The numbers of local users and groups, by name.
//!
//! They are looked up in the files themselves: to ask the system's name services could take as long as a
//! server far away takes, and the daemon's loop waits for nobody. Whoever is not local has a number.

use std::fs;

use crate::id::{Gid, Uid};

/// Where local users are listed (passwd(5)).
const USER_FILE: &str = "/etc/passwd";

/// Where local groups are listed (group(5)).
const GROUP_FILE: &str = "/etc/group";

/// The user `name`, which may be a number itself.
pub(in crate::daemon) fn user_id(name: &str) -> Option<Uid> {
    number_of(name, USER_FILE).map(Uid)
}

/// The group `name`, which may be a number itself.
pub(in crate::daemon) fn group_id(name: &str) -> Option<Gid> {
    number_of(name, GROUP_FILE).map(Gid)
}

fn number_of(name: &str, file: &str) -> Option<u32> {
    name.parse().ok().or_else(|| find_account(&fs::read(file).ok()?, name.as_bytes()))
}

/// The number in the line `NAME:PASSWORD:NUMBER…` of that name.
fn find_account(database: &[u8], name: &[u8]) -> Option<u32> {
    database.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let is_it = fields.next() == Some(name);
        let number = fields.nth(1)?;
        is_it.then(|| std::str::from_utf8(number).ok()?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATABASE: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nbad:x\nann:x:1000:1000:Ann:/home/ann:/bin/sh\n";

    #[test]
    fn account_known_name_has_its_number() {
        assert_eq!(find_account(DATABASE, b"ann"), Some(1000));
        assert_eq!(find_account(DATABASE, b"an"), None);
        assert_eq!(find_account(DATABASE, b"bad"), None);
    }

    #[test]
    fn account_number_is_taken_as_it_is() {
        assert_eq!((user_id("4000000000"), group_id("17")), (Some(Uid(4_000_000_000)), Some(Gid(17))));
        assert_eq!(user_id("root"), Some(Uid(0)));
        assert_eq!((user_id("no such user"), group_id("-1")), (None, None));
    }
}
