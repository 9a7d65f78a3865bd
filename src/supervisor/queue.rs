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
//!
//! A row of the table may stand for a run of tasks, one behind the other in their line: it has the ticket of its first.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;

use super::chain::{Chain, Links};
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

/// What became of the row of a run of tasks: it has lost the first of them to another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) first: TaskKey,
    /// The ticket that it had, which the other has now.
    pub(super) ticket: Ticket,
    pub(super) rest: TaskKey,
    pub(super) ticket_of_rest: Ticket,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) task: TaskKey,
    /// Whether nobody else waits with the same priority, so that what stands behind it is next.
    pub(super) is_alone: bool,
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
        let after = self.served.filter(|_| self.values.len() > 1);
        let next =
            after.and_then(|served| self.values.range((Bound::Excluded(served), Bound::Unbounded)).next());
        next.or_else(|| self.values.first_key_value()).map(|(key, _)| *key)
    }

    /// The same, which is empty, as if nobody had had a turn.
    fn anew(self) -> Self {
        Turns { served: None, ..self }
    }
}

/// The tasks of a connection at one priority.
#[derive(Debug, Default)]
struct Line {
    /// Those that were at the front once and came back: they stand before all others.
    returned: BTreeMap<Ticket, TaskKey>,
    /// The others, in the order of their tickets.
    fresh: Chain,
}

impl Line {
    fn first(&self) -> Option<TaskKey> {
        self.returned.values().next().copied().or_else(|| self.fresh.first())
    }

    fn pop(&mut self, links: &mut Links) -> Option<TaskKey> {
        let returned = self.returned.pop_first().map(|(_, task)| task);
        returned.or_else(|| self.fresh.pop(links))
    }

    /// The first tasks of a row have a row of their own now: in front of it, with the ticket that it had.
    fn split(&mut self, links: &mut Links, cut: Cut) {
        match self.returned.get_mut(&cut.ticket) {
            Some(row) => {
                *row = cut.first;
                self.returned.insert(cut.ticket_of_rest, cut.rest);
            }
            None => self.fresh.insert_before(links, cut.first, cut.rest),
        }
    }

    /// Takes the first tasks of the first row out, which have a row of their own.
    fn pop_first(&mut self, cut: Cut) -> TaskKey {
        if self.returned.remove(&cut.ticket).is_some() {
            self.returned.insert(cut.ticket_of_rest, cut.rest);
        }
        cut.first
    }

    fn remove(&mut self, links: &mut Links, ticket: Ticket, task: TaskKey) {
        if self.returned.remove(&ticket).is_none() {
            self.fresh.remove(links, task);
        }
    }

    fn is_empty(&self) -> bool {
        self.returned.is_empty() && self.fresh.is_empty()
    }
}

type Connections = Turns<ConnectionId, Line>;
type Users = Turns<Uid, Connections>;

/// Lines of tasks by priority, user and connection. Nothing in it is empty.
#[derive(Debug, Default)]
struct Lines {
    levels: BTreeMap<Reverse<i16>, Users>,
    /// What fell empty last, for the next that is needed: a line that empties and fills all the time
    /// costs no allocation.
    spare: (Users, Connections),
}

impl Lines {
    /// The line of a place, which may be a new one.
    fn line(&mut self, place: Place) -> &mut Line {
        let Lines { levels, spare } = self;
        let users = levels.entry(Reverse(place.priority)).or_insert_with(|| std::mem::take(&mut spare.0));
        let connections = users.values.entry(place.user).or_insert_with(|| std::mem::take(&mut spare.1));
        connections.values.entry(place.connection).or_default()
    }

    /// Takes a task out, if the line of its place is here; says whether it is.
    fn remove(&mut self, links: &mut Links, place: Place, task: TaskKey) -> bool {
        let Some(line) = self.find(place) else { return false };
        line.remove(links, place.ticket, task);
        if line.is_empty() {
            self.take_line(place.priority, place.user, place.connection);
        }
        true
    }

    /// The line of a place, if it is here.
    fn find(&mut self, place: Place) -> Option<&mut Line> {
        let users = self.levels.get_mut(&Reverse(place.priority))?;
        users.values.get_mut(&place.user)?.values.get_mut(&place.connection)
    }

    fn turn(&self) -> Option<Turn> {
        let (_, users) = self.levels.first_key_value()?;
        let connections = users.values.get(&users.next()?)?;
        let task = connections.values.get(&connections.next()?)?.first()?;
        Some(Turn { task, is_alone: users.values.len() == 1 && connections.values.len() == 1 })
    }

    /// Gives the one whose turn it is its turn: `take` takes out of its line.
    fn serve<T>(&mut self, take: impl FnOnce(&mut Line) -> Option<T>) -> Option<T> {
        let (Reverse(priority), users) = self.levels.iter_mut().next()?;
        let priority = *priority;
        let user = users.next()?;
        users.served = Some(user);
        let connections = users.values.get_mut(&user)?;
        let connection = connections.next()?;
        connections.served = Some(connection);
        let line = connections.values.get_mut(&connection)?;
        let taken = take(line)?;
        if line.is_empty() {
            self.take_line(priority, user, connection);
        }
        Some(taken)
    }

    /// Takes the whole line of a connection out of one level, and what is empty then.
    fn take_line(&mut self, priority: i16, user: Uid, connection: ConnectionId) -> Option<Line> {
        let Lines { levels, spare } = self;
        let users = levels.get_mut(&Reverse(priority))?;
        let connections = users.values.get_mut(&user)?;
        let line = connections.values.remove(&connection);
        if connections.values.is_empty() {
            spare.1 = users.values.remove(&user).map(Turns::anew).unwrap_or_default();
        }
        if users.values.is_empty() {
            spare.0 = levels.remove(&Reverse(priority)).map(Turns::anew).unwrap_or_default();
        }
        line
    }

    fn put_line(&mut self, priority: i16, user: Uid, connection: ConnectionId, line: Line) {
        *self.line(Place { priority, user, connection, ticket: Ticket(0) }) = line;
    }

    fn priorities(&self) -> Vec<i16> {
        self.levels.keys().map(|Reverse(priority)| *priority).collect()
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

    /// The largest priority of those that can be taken out.
    pub(super) fn most_urgent(&self) -> Option<i16> {
        self.ready.levels.keys().next().map(|Reverse(priority)| *priority)
    }

    /// Puts a row with a new ticket, of so many tasks, at the end of its line.
    pub(super) fn push(&mut self, links: &mut Links, place: Place, task: TaskKey, count: u32) {
        self.line(place).fresh.push(links, task);
        self.len += u64::from(count);
    }

    /// Puts a row that was taken out in turn back where it stood.
    pub(super) fn put_back(&mut self, place: Place, task: TaskKey, count: u32) {
        self.line(place).returned.insert(place.ticket, task);
        self.len += u64::from(count);
    }

    /// Takes out a row that waits.
    pub(super) fn remove(&mut self, links: &mut Links, place: Place, task: TaskKey, count: u32) {
        let removed = self.ready.remove(links, place, task) || self.aside.remove(links, place, task);
        assert!(removed, "a pending task is in its pool's queue");
        self.len -= u64::from(count);
    }

    /// Whose turn it is.
    pub(super) fn turn(&self) -> Option<Turn> {
        self.ready.turn()
    }

    /// Takes out the row whose turn it is, of so many tasks.
    pub(super) fn take(&mut self, links: &mut Links, count: u32) {
        if self.ready.serve(|line| line.pop(links)).is_some() {
            self.len -= u64::from(count);
        }
    }

    /// Takes out the first tasks, so many, of the row whose turn it is.
    pub(super) fn take_first(&mut self, cut: Cut, count: u32) {
        if self.ready.serve(|line| Some(line.pop_first(cut))).is_some() {
            self.len -= u64::from(count);
        }
    }

    /// A row that waits in the line of `place` is two rows now.
    pub(super) fn split(&mut self, links: &mut Links, place: Place, cut: Cut) {
        let Queue { ready, aside, .. } = self;
        let line = ready.find(place).or_else(|| aside.find(place));
        line.expect("a pending task is in its pool's queue").split(links, cut);
    }

    fn line(&mut self, place: Place) -> &mut Line {
        let blocked = self.blocked.contains_key(&place.connection);
        if blocked { &mut self.aside } else { &mut self.ready }.line(place)
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

    /// A queue and the links of its tasks, which have their tickets for keys.
    #[derive(Default)]
    struct Desk {
        queue: Queue,
        links: Links,
    }

    impl Desk {
        fn of(places: &[Place]) -> Self {
            let mut desk = Desk::default();
            places.iter().for_each(|place| desk.push(*place));
            desk
        }

        fn push(&mut self, place: Place) {
            self.queue.push(&mut self.links, place, key(place), 1);
        }

        fn remove(&mut self, place: Place) {
            self.queue.remove(&mut self.links, place, key(place), 1);
        }

        fn pop(&mut self) -> Option<u64> {
            let Turn { task, .. } = self.queue.turn()?;
            self.queue.take(&mut self.links, 1);
            Some(task.row() as u64)
        }

        fn drain(&mut self) -> Vec<u64> {
            std::iter::from_fn(|| self.pop()).collect()
        }
    }

    fn key(place: Place) -> TaskKey {
        TaskKey::of_row(place.ticket.0 as usize)
    }

    #[test]
    fn queue_of_two_priorities_empties_the_larger_first() {
        let mut desk =
            Desk::of(&[place(0, 1, 1, 1), place(5, 1, 1, 2), place(-3, 1, 1, 3), place(5, 1, 1, 4)]);
        assert_eq!(desk.drain(), [2, 4, 1, 3]);
        assert_eq!(desk.queue.len(), 0);
    }

    #[test]
    fn queue_turns_go_round_users_then_connections() {
        let mut desk = Desk::of(&[
            place(0, 1, 1, 1),
            place(0, 1, 1, 2),
            place(0, 1, 1, 3),
            place(0, 1, 2, 4),
            place(0, 2, 3, 5),
            place(0, 2, 3, 6),
        ]);
        assert_eq!(desk.drain(), [1, 5, 4, 6, 2, 3]);
    }

    #[test]
    fn queue_tasks_that_come_back_stand_where_they_stood() {
        let places = [1, 2, 3, 4].map(|ticket| place(0, 1, 1, ticket));
        let mut desk = Desk::of(&places);
        assert_eq!([desk.pop(), desk.pop(), desk.pop()], [Some(1), Some(2), Some(3)]);
        for returned in [0, 2, 1] {
            desk.queue.put_back(places[returned], key(places[returned]), 1);
            desk.push(place(0, 1, 1, 5 + returned as u64));
        }
        desk.remove(places[1]);
        assert_eq!(desk.drain(), [1, 3, 4, 5, 7, 6]);
    }

    #[test]
    fn queue_of_a_blocked_connection_waits_until_it_is_unblocked() {
        let mut desk = Desk::of(&[place(0, 1, 1, 1), place(7, 1, 1, 2), place(0, 1, 2, 3)]);
        desk.queue.block(ConnectionId(1), Uid(1));
        desk.push(place(0, 1, 1, 4));
        assert_eq!(desk.drain(), [3]);
        desk.remove(place(0, 1, 1, 4));
        desk.queue.unblock(ConnectionId(1));
        assert_eq!(desk.drain(), [2, 1]);
    }

    #[test]
    fn queue_that_empties_and_fills_again_gives_everyone_a_turn() {
        let mut desk = Desk::default();
        for round in 0..3 {
            let ticket = |place: u64| round * 10 + place;
            desk.push(place(0, 2, 3, ticket(2)));
            desk.push(place(0, 1, 1, ticket(1)));
            desk.push(place(0, 2, 3, ticket(3)));
            assert_eq!(desk.drain(), [1, 2, 3].map(ticket), "nobody is remembered");
        }
    }
}
