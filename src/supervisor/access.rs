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
