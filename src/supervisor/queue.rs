//! Whose turn it is: the tasks of one pool that wait for a worker.
//!
//! ```text
//!   priority 5 ── user 1000 ──┬─ connection 3 ── task, task, task     (first in, first out)
//!              │              └─ connection 8 ── task
//!              └─ user 1001 ──── connection 4 ── task, task
//!   priority 0 ── …
//! ```
//!
//! The largest priority goes first, whatever waits below it. Within one, turns go round the users, then
//! round each user's connections. A task keeps its ticket when it is sent to a worker, so that one that
//! comes back stands where it stood. The tasks of a blocked client stand aside until it is unblocked.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;

use super::tasks::TaskKey;
use crate::id::{ConnectionId, Uid};

/// A place in a connection's line; tickets are drawn in the order of queueing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(pub(super) u64);

/// Where a task waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) priority: i16,
    pub(super) user: Uid,
    pub(super) connection: ConnectionId,
    pub(super) ticket: Ticket,
}

/// Values that take turns: after one was served, the next key has its turn.
#[derive(Debug)]
struct Turns<K, V> {
    values: BTreeMap<K, V>,
    served: Option<K>,
}

impl<K: Ord + Copy, V> Default for Turns<K, V> {
    fn default() -> Self {
        Turns { values: BTreeMap::new(), served: None }
    }
}

impl<K: Ord + Copy, V> Turns<K, V> {
    fn next(&self) -> Option<K> {
        let after = match self.served {
            Some(served) => (Bound::Excluded(served), Bound::Unbounded),
            None => (Bound::Unbounded, Bound::Unbounded),
        };
        self.values.range(after).next().or_else(|| self.values.first_key_value()).map(|(key, _)| *key)
    }
}

type Line = BTreeMap<Ticket, TaskKey>;
type Users = Turns<Uid, Turns<ConnectionId, Line>>;

/// Lines of tasks by priority, user and connection. Nothing in it is empty.
#[derive(Debug, Default)]
struct Lines {
    levels: BTreeMap<Reverse<i16>, Users>,
}

impl Lines {
    fn insert(&mut self, place: Place, task: TaskKey) {
        let users = self.levels.entry(Reverse(place.priority)).or_default();
        let connections = users.values.entry(place.user).or_default();
        connections.values.entry(place.connection).or_default().insert(place.ticket, task);
    }

    fn remove(&mut self, place: Place) -> Option<TaskKey> {
        let users = self.levels.get_mut(&Reverse(place.priority))?;
        let line = users.values.get_mut(&place.user)?.values.get_mut(&place.connection)?;
        let task = line.remove(&place.ticket);
        self.prune(place.priority, place.user, place.connection);
        task
    }

    fn pop(&mut self) -> Option<(Place, TaskKey)> {
        let (Reverse(priority), users) = self.levels.iter_mut().next()?;
        let priority = *priority;
        let user = users.next()?;
        users.served = Some(user);
        let connections = users.values.get_mut(&user)?;
        let connection = connections.next()?;
        connections.served = Some(connection);
        let (ticket, task) = connections.values.get_mut(&connection)?.pop_first()?;
        self.prune(priority, user, connection);
        Some((Place { priority, user, connection, ticket }, task))
    }

    /// Takes the whole line of a connection out of one level.
    fn take_line(&mut self, priority: i16, user: Uid, connection: ConnectionId) -> Option<Line> {
        let connections = self.levels.get_mut(&Reverse(priority))?.values.get_mut(&user)?;
        let line = connections.values.remove(&connection);
        self.prune(priority, user, connection);
        line
    }

    fn put_line(&mut self, priority: i16, user: Uid, connection: ConnectionId, line: Line) {
        let users = self.levels.entry(Reverse(priority)).or_default();
        users.values.entry(user).or_default().values.insert(connection, line);
    }

    fn priorities(&self) -> Vec<i16> {
        self.levels.keys().map(|Reverse(priority)| *priority).collect()
    }

    fn prune(&mut self, priority: i16, user: Uid, connection: ConnectionId) {
        let Some(users) = self.levels.get_mut(&Reverse(priority)) else { return };
        if let Some(connections) = users.values.get_mut(&user) {
            if connections.values.get(&connection).is_some_and(Line::is_empty) {
                connections.values.remove(&connection);
            }
            if connections.values.is_empty() {
                users.values.remove(&user);
            }
        }
        if users.values.is_empty() {
            self.levels.remove(&Reverse(priority));
        }
    }
}

/// The tasks of one pool that wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    ready: Lines,
    aside: Lines,
    blocked: BTreeMap<ConnectionId, Uid>,
    len: u64,
}

impl Queue {
    /// How many tasks wait.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Puts a task in its place.
    pub(super) fn insert(&mut self, place: Place, task: TaskKey) {
        let blocked = self.blocked.contains_key(&place.connection);
        if blocked { &mut self.aside } else { &mut self.ready }.insert(place, task);
        self.len += 1;
    }

    /// Takes out a task that was put in.
    pub(super) fn remove(&mut self, place: Place) {
        let removed = self.ready.remove(place).or_else(|| self.aside.remove(place));
        assert!(removed.is_some(), "a pending task is in its pool's queue");
        self.len -= 1;
    }

    /// Takes out the task whose turn it is.
    pub(super) fn pop(&mut self) -> Option<(Place, TaskKey)> {
        let popped = self.ready.pop()?;
        self.len -= 1;
        Some(popped)
    }

    /// The tasks of `connection` stand aside, those to come as well.
    pub(super) fn block(&mut self, connection: ConnectionId, user: Uid) {
        self.blocked.insert(connection, user);
        for priority in self.ready.priorities() {
            if let Some(line) = self.ready.take_line(priority, user, connection) {
                self.aside.put_line(priority, user, connection, line);
            }
        }
    }

    /// The tasks of `connection` take their turns again.
    pub(super) fn unblock(&mut self, connection: ConnectionId) {
        let Some(user) = self.blocked.remove(&connection) else { return };
        for priority in self.aside.priorities() {
            if let Some(line) = self.aside.take_line(priority, user, connection) {
                self.ready.put_line(priority, user, connection, line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(priority: i16, user: u32, connection: u64, ticket: u64) -> Place {
        Place { priority, user: Uid(user), connection: ConnectionId(connection), ticket: Ticket(ticket) }
    }

    fn queue_of(places: &[Place]) -> Queue {
        let mut queue = Queue::default();
        for place in places {
            queue.insert(*place, TaskKey(place.ticket.0 as u32));
        }
        queue
    }

    fn drain(queue: &mut Queue) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop()).map(|(_, task)| task.0).collect()
    }

    #[test]
    fn queue_of_two_priorities_empties_the_larger_first() {
        let mut queue =
            queue_of(&[place(0, 1, 1, 1), place(5, 1, 1, 2), place(-3, 1, 1, 3), place(5, 1, 1, 4)]);
        assert_eq!(drain(&mut queue), [2, 4, 1, 3]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn queue_turns_go_round_users_then_connections() {
        let mut queue = queue_of(&[
            place(0, 1, 1, 1),
            place(0, 1, 1, 2),
            place(0, 1, 1, 3),
            place(0, 1, 2, 4),
            place(0, 2, 3, 5),
            place(0, 2, 3, 6),
        ]);
        assert_eq!(drain(&mut queue), [1, 5, 4, 6, 2, 3]);
    }

    #[test]
    fn queue_task_that_comes_back_stands_where_it_stood() {
        let mut queue = queue_of(&[place(0, 1, 1, 1), place(0, 1, 1, 2)]);
        let (first, task) = queue.pop().unwrap();
        queue.insert(first, task);
        assert_eq!(drain(&mut queue), [1, 2]);
    }

    #[test]
    fn queue_of_a_blocked_connection_waits_until_it_is_unblocked() {
        let mut queue = queue_of(&[place(0, 1, 1, 1), place(7, 1, 1, 2), place(0, 1, 2, 3)]);
        queue.block(ConnectionId(1), Uid(1));
        queue.insert(place(0, 1, 1, 4), TaskKey(4));
        assert_eq!(drain(&mut queue), [3]);
        queue.remove(place(0, 1, 1, 4));
        queue.unblock(ConnectionId(1));
        assert_eq!(drain(&mut queue), [2, 1]);
    }
}
