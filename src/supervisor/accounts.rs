//! What tasks add up to: all of them, and those of each user.

use std::collections::BTreeMap;

use slab::Slab;

use crate::id::Uid;
use crate::message::status::TaskCounts;

/// A user's account, as long as there are tasks on it. Given to another user afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AccountKey(u32);

/// The part of one task, or of some that are alike, in what they add up to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) stage: Stage,
    pub(super) tasks: u64,
    /// Of its arguments, or of its result once that is kept.
    pub(super) bytes: u64,
    /// Of the memory that these are in.
    pub(super) descriptors: u64,
}

/// What a task is counted as.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    Delayed,
    Pending,
    Running,
    Kept,
}

/// What tasks add up to.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    all: Sum,
    accounts: Slab<Account>,
    /// Of the users who have any tasks.
    keys: BTreeMap<Uid, AccountKey>,
}

#[derive(Debug)]
struct Account {
    user: Uid,
    sum: Sum,
}

/// What some tasks add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) counts: TaskCounts,
    pub(super) descriptors: Descriptors,
}

/// Descriptors of shared memory that tasks hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Descriptors {
    /// Of the arguments of those that are not done.
    pub(super) arguments: u64,
    /// Of kept results.
    pub(super) results: u64,
}

impl Accounts {
    /// The account of a user who has tasks, or is about to have one.
    pub(super) fn open(&mut self, user: Uid) -> AccountKey {
        let Accounts { accounts, keys, .. } = self;
        // There are no more users than rows of tasks, which a `u32` counts.
        let open = || AccountKey(accounts.insert(Account { user, sum: Sum::default() }) as u32);
        *keys.entry(user).or_insert_with(open)
    }

    /// Counts a new task.
    pub(super) fn add(&mut self, account: AccountKey, part: Part) {
        part.add_to(&mut self.all);
        part.add_to(&mut self.accounts[account.0 as usize].sum);
    }

    /// Counts a task as something else.
    pub(super) fn change(&mut self, account: AccountKey, before: Part, after: Part) {
        for sum in [&mut self.all, &mut self.accounts[account.0 as usize].sum] {
            before.take_from(sum);
            after.add_to(sum);
        }
    }

    /// Counts a task no more.
    pub(super) fn remove(&mut self, account: AccountKey, part: Part) {
        part.take_from(&mut self.all);
        let Account { user, sum } = &mut self.accounts[account.0 as usize];
        part.take_from(sum);
        if *sum == Sum::default() {
            self.keys.remove(user);
            self.accounts.remove(account.0 as usize);
        }
    }

    /// What all tasks add up to.
    pub(super) fn all(&self) -> Sum {
        self.all
    }

    /// What the tasks of one user add up to.
    pub(super) fn of(&self, user: Uid) -> Sum {
        self.keys.get(&user).map_or_else(Sum::default, |key| self.accounts[key.0 as usize].sum)
    }

    /// The users who have tasks or kept results.
    pub(super) fn users(&self) -> Vec<Uid> {
        self.keys.keys().copied().collect()
    }
}

impl Part {
    fn add_to(self, sum: &mut Sum) {
        let [tasks, bytes, descriptors] = self.sums(sum);
        *tasks += self.tasks;
        *bytes += self.bytes;
        *descriptors += self.descriptors;
    }

    fn take_from(self, sum: &mut Sum) {
        let [tasks, bytes, descriptors] = self.sums(sum);
        *tasks -= self.tasks;
        *bytes -= self.bytes;
        *descriptors -= self.descriptors;
    }

    /// The sums that it is in: of tasks, of bytes and of descriptors.
    fn sums(self, Sum { counts, descriptors }: &mut Sum) -> [&mut u64; 3] {
        match self.stage {
            Stage::Delayed => [&mut counts.delayed, &mut counts.argument_bytes, &mut descriptors.arguments],
            Stage::Pending => [&mut counts.pending, &mut counts.argument_bytes, &mut descriptors.arguments],
            Stage::Running => [&mut counts.running, &mut counts.argument_bytes, &mut descriptors.arguments],
            Stage::Kept => [&mut counts.kept, &mut counts.result_bytes, &mut descriptors.results],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_tell_users_apart_and_add_them_up() {
        let mut accounts = Accounts::default();
        let (one, other) = (accounts.open(Uid(1)), accounts.open(Uid(2)));
        let pending = Part { stage: Stage::Pending, tasks: 1, bytes: 10, descriptors: 1 };
        let kept = Part { stage: Stage::Kept, tasks: 1, bytes: 3, descriptors: 0 };
        accounts.add(one, pending);
        accounts.add(other, pending);
        accounts.change(other, pending, kept);
        let of_one = Sum {
            counts: TaskCounts { pending: 1, argument_bytes: 10, ..TaskCounts::default() },
            descriptors: Descriptors { arguments: 1, results: 0 },
        };
        let of_other = TaskCounts { kept: 1, result_bytes: 3, ..TaskCounts::default() };
        let of_other = Sum { counts: of_other, descriptors: Descriptors::default() };
        assert_eq!((accounts.of(Uid(1)), accounts.of(Uid(2))), (of_one, of_other));
        let all = TaskCounts { kept: 1, result_bytes: 3, ..of_one.counts };
        let all = Sum { counts: all, ..of_one };
        assert_eq!((accounts.all(), accounts.users()), (all, vec![Uid(1), Uid(2)]));
        accounts.remove(one, pending);
        accounts.remove(other, kept);
        assert_eq!((accounts.all(), accounts.users()), (Sum::default(), Vec::new()));
    }

    #[test]
    fn account_of_a_user_who_comes_again_starts_from_nothing() {
        let mut accounts = Accounts::default();
        let part = Part { stage: Stage::Running, tasks: 1, bytes: 1, descriptors: 1 };
        for user in [1, 1, 2, 1].map(Uid) {
            let account = accounts.open(user);
            assert_eq!(account, accounts.open(user));
            assert_eq!(accounts.of(user), Sum::default());
            accounts.add(account, part);
            assert_eq!(accounts.of(user).counts.running, 1);
            accounts.remove(account, part);
        }
    }
}
