//! Who may do what, by the ids of users and groups. Whose names those are is known elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::id::{Credentials, FunctionName, Gid, RUN_FUNCTION, Uid};

/// Some users: by themselves, or by a group that they are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Whoever asks.
    Everyone,
    /// These, and the members of these; nobody if there are none.
    Listed {
        /// Users.
        users: BTreeSet<Uid>,
        /// Groups.
        groups: BTreeSet<Gid>,
    },
}

/// Who may do what, beside root and the user that the daemon runs as, who may do everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Who may connect, of those that the socket lets in.
    pub connect: Who,
    /// Who may change how the daemon runs, and whether it does; and connect for that.
    pub administer: Who,
    /// Who may run a function.
    pub run: BTreeMap<FunctionName, Who>,
    /// Who may run the functions that `run` does not name.
    pub run_others: Who,
}

impl Who {
    /// Nobody.
    pub fn nobody() -> Self {
        Who::Listed { users: BTreeSet::new(), groups: BTreeSet::new() }
    }

    /// Whether `peer` is one of them.
    pub fn includes(&self, peer: &Credentials) -> bool {
        match self {
            Who::Everyone => true,
            Who::Listed { users, groups } => {
                users.contains(&peer.user) || peer.groups.iter().any(|group| groups.contains(group))
            }
        }
    }
}

impl fmt::Display for Who {
    /// As the configuration writes it, with numbers for names: `1000, @50`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Everyone => formatter.write_str("*"),
            Who::Listed { users, groups } if users.is_empty() && groups.is_empty() => {
                formatter.write_str("nobody")
            }
            Who::Listed { users, groups } => {
                let users = users.iter().map(|user| user.0.to_string());
                let groups = groups.iter().map(|group| format!("@{}", group.0));
                formatter.write_str(&users.chain(groups).collect::<Vec<String>>().join(", "))
            }
        }
    }
}

impl Access {
    /// Who may run a function.
    pub fn to_run(&self, function: &FunctionName) -> &Who {
        self.run.get(function).unwrap_or(&self.run_others)
    }
}

impl Default for Access {
    /// Everyone may connect and run every function but the one that runs any command.
    fn default() -> Self {
        let any_command = FunctionName::new(RUN_FUNCTION).expect("a name of our own is a valid one");
        Access {
            connect: Who::Everyone,
            administer: Who::nobody(),
            run: [(any_command, Who::nobody())].into(),
            run_others: Who::Everyone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(users: &[u32], groups: &[u32]) -> Who {
        let users = users.iter().copied().map(Uid).collect();
        Who::Listed { users, groups: groups.iter().copied().map(Gid).collect() }
    }

    #[test]
    fn who_reads_as_the_configuration_writes_it() {
        let texts = [
            (Who::Everyone, "*"),
            (Who::nobody(), "nobody"),
            (listed(&[1000], &[]), "1000"),
            (listed(&[], &[50]), "@50"),
            (listed(&[1001, 1000], &[50, 27]), "1000, 1001, @27, @50"),
        ];
        for (who, text) in texts {
            assert_eq!(who.to_string(), text);
        }
    }

    #[test]
    fn listed_are_users_by_themselves_and_by_any_of_their_groups() {
        let who = listed(&[1000], &[50]);
        let peer = |user, groups: &[u32]| Credentials {
            user: Uid(user),
            groups: groups.iter().copied().map(Gid).collect(),
        };
        assert!(who.includes(&peer(1000, &[])));
        assert!(who.includes(&peer(1001, &[27, 50])));
        assert!(!who.includes(&peer(1001, &[1000])), "a group is no user of the same number");
        assert!(!who.includes(&peer(50, &[])), "a user is no group of the same number");
    }

    #[test]
    fn default_lets_everyone_run_all_but_any_command() {
        let access = Access::default();
        let stranger = Uid(1000).into();
        let may_run = |name: &str| access.to_run(&name.parse().expect("a name")).includes(&stranger);
        assert!(access.connect.includes(&stranger) && may_run("is_prime"));
        assert!(!may_run(RUN_FUNCTION) && !access.administer.includes(&stranger));
    }
}
