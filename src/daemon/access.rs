//! Who is let in, who stays, and who may administer: the policy's answers, carried out.
//!
//! Which functions a client may run, and which tasks are its own, is for the supervisor to say.

use super::clients::ClientDid;
use super::descent::descends;
use super::token::Token;
use super::{Daemon, LOG_TARGET};
use crate::id::{ConnectionId, Credentials, FunctionName, Pid, RUN_FUNCTION, RequestId};
use crate::message::client::Refusal;
use crate::os::children;
use crate::supervisor::Event;
use crate::wire::Verdict;

/// Why a client is not let in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Objection {
    /// What it is told.
    pub(super) verdict: Verdict,
    /// The same for the log.
    pub(super) reason: String,
}

impl Daemon<'_> {
    /// Why `peer` is not let in, if it is not; `process` has connected.
    pub(super) fn objection_to(&self, peer: &Credentials, process: Pid) -> Option<Objection> {
        let policy = self.supervisor.policy();
        let of_user = self.clients.len_of(peer.user);
        let connections = self.clients.len();
        let (verdict, reason) = if !policy.may_connect(peer) {
            (Verdict::NotAllowed, "access.connect does not name it".to_owned())
        } else if of_user >= self.config.limits.user_connections && !policy.is_privileged(peer.user) {
            let rule = "the most that limits.user_connections allows one user";
            (Verdict::TooManyOfUser, format!("it has {of_user} open, {rule}"))
        } else if connections >= self.config.limits.connections {
            let rule = "the most that limits.connections allows";
            (Verdict::TooManyConnections, format!("{connections} are open, {rule}"))
        } else if connections >= self.connections_within_descriptors() {
            let rule = "the most that the limit on descriptors (RLIMIT_NOFILE) leaves to clients";
            (Verdict::TooManyConnections, format!("{connections} are open, {rule}"))
        } else if !self.is_own(process) {
            return None;
        } else if !children::can_be_seen() {
            (Verdict::TooManyConnections, "no descriptor is left to see whose process asks".to_owned())
        } else {
            let reason =
                "a worker's process asked to be a client, which it may not; its functions can call functions";
            (Verdict::NotAllowed, reason.to_owned())
        };
        Some(Objection { verdict, reason })
    }

    /// Whether `process` comes from one that the daemon has started.
    fn is_own(&self, process: Pid) -> bool {
        let daemon = Pid(std::process::id());
        self.sees_processes && descends(process, daemon, children::parent_of, children::is_of_another_user)
    }

    /// Whether a client may do something that concerns everyone; if not, it is told so.
    pub(super) fn may_administer(&mut self, client: ConnectionId, request: RequestId, what: &str) -> bool {
        let policy = self.supervisor.policy();
        let may = self.clients.peer(client).is_some_and(|peer| policy.may_administer(peer));
        if !may {
            let rule = format!(
                "access.administer of the configuration does not let you {what}; ask its operator to be added"
            );
            self.refuse(client, request, Refusal::NotAllowed(rule));
        }
        may
    }

    /// Warns of rules for functions that no pool has, once every pool has said what it has: a slip of the pen leaves
    /// the function open that was meant.
    pub(super) fn check_rules(&mut self) {
        if !self.supervisor.is_ready() || std::mem::replace(&mut self.are_rules_checked, true) {
            return;
        }
        let (functions, _) = self.supervisor.functions(0, usize::MAX);
        let has = |name: &FunctionName| functions.iter().any(|function| function.name == *name);
        let rules = self.supervisor.policy().access.run.keys();
        for name in rules.filter(|name| name.as_str() != RUN_FUNCTION && !has(name)) {
            log::warn!(target: LOG_TARGET, "access.run names `{name}`, a function that no pool has; correct the name");
        }
    }

    /// Closes the connections of those whom the policy in force would not let in. Their attached tasks end with them.
    pub(super) fn turn_out_unwelcome(&mut self) {
        let policy = self.supervisor.policy();
        for (client, did) in self.clients.turn_out(self.now, |peer| policy.may_connect(peer)) {
            self.touched.insert(Token::Client(client));
            if let ClientDid::Leave = did {
                self.step(Event::ClientGone { client });
            }
        }
    }
}
