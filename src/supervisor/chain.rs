//! Chains of tasks: first in, first out, and any one out at once, without memory beside two numbers for each task.
//!
//! ```text
//!   Chain { first ─> 4, last ─> 2 }        Links   row 4: (-, 7)   row 7: (4, 2)   row 2: (7, -)
//! ```

use super::tasks::TaskKey;

/// The neighbours of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Link {
    before: Option<TaskKey>,
    after: Option<TaskKey>,
}

/// The neighbours of all tasks, each of which is in one chain at most; by the rows of the tasks.
///
/// What is kept of a task that is in none means nothing.
#[derive(Debug, Default)]
pub(super) struct Links(Vec<Link>);

/// Some tasks, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// The first one and the last one.
    ends: Option<(TaskKey, TaskKey)>,
}

impl Links {
    fn set(&mut self, task: TaskKey, link: Link) {
        if task.row() >= self.0.len() {
            self.0.resize(task.row() + 1, Link::default());
        }
        self.0[task.row()] = link;
    }

    fn of(&mut self, task: TaskKey) -> &mut Link {
        &mut self.0[task.row()]
    }

    /// Gives all memory back. No task is in a chain.
    pub(super) fn clear(&mut self) {
        self.0 = Vec::new();
    }
}

impl Chain {
    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_none()
    }

    /// Puts a task that is in no chain at the end.
    pub(super) fn push(&mut self, links: &mut Links, task: TaskKey) {
        links.set(task, Link { before: self.ends.map(|(_, last)| last), after: None });
        self.ends = match self.ends {
            Some((first, last)) => {
                links.of(last).after = Some(task);
                Some((first, task))
            }
            None => Some((task, task)),
        };
    }

    /// The first one.
    pub(super) fn first(&self) -> Option<TaskKey> {
        self.ends.map(|(first, _)| first)
    }

    /// Puts a task that is in no chain before one that is in it.
    pub(super) fn insert_before(&mut self, links: &mut Links, task: TaskKey, next: TaskKey) {
        let before = links.of(next).before.replace(task);
        links.set(task, Link { before, after: Some(next) });
        match before {
            Some(before) => links.of(before).after = Some(task),
            None => self.ends = self.ends.map(|(_, last)| (task, last)),
        }
    }

    /// Takes the first one out.
    pub(super) fn pop(&mut self, links: &mut Links) -> Option<TaskKey> {
        let (first, _) = self.ends?;
        self.remove(links, first);
        Some(first)
    }

    /// Takes out a task that is in it.
    pub(super) fn remove(&mut self, links: &mut Links, task: TaskKey) {
        let Link { before, after } = *links.of(task);
        let (mut first, mut last) = self.ends.expect("what is taken out of a chain is in it");
        match before {
            Some(before) => links.of(before).after = after,
            None => assert_eq!(std::mem::replace(&mut first, after.unwrap_or(task)), task, "it is the first"),
        }
        match after {
            Some(after) => links.of(after).before = before,
            None => assert_eq!(std::mem::replace(&mut last, before.unwrap_or(task)), task, "it is the last"),
        }
        self.ends = (before.is_some() || after.is_some()).then_some((first, last));
    }

    /// All of them, in their order.
    pub(super) fn tasks(&self, links: &Links) -> Vec<TaskKey> {
        let first = self.ends.map(|(first, _)| first);
        std::iter::successors(first, |task| links.0[task.row()].after).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(row: usize) -> TaskKey {
        TaskKey::of_row(row)
    }

    #[test]
    fn chain_keeps_the_order_whatever_is_taken_out() {
        for taken in 0..4 {
            let (mut chain, mut links) = (Chain::default(), Links::default());
            (0..4).for_each(|row| chain.push(&mut links, key(row)));
            chain.remove(&mut links, key(taken));
            chain.push(&mut links, key(taken));
            let order: Vec<TaskKey> = (0..4).filter(|row| *row != taken).chain([taken]).map(key).collect();
            assert_eq!(chain.tasks(&links), order);
            let popped: Vec<TaskKey> = std::iter::from_fn(|| chain.pop(&mut links)).collect();
            assert_eq!(popped, order);
            assert!(chain.is_empty());
        }
    }

    #[test]
    fn task_is_put_before_any_other() {
        for next in 0..3 {
            let (mut chain, mut links) = (Chain::default(), Links::default());
            (0..3).for_each(|row| chain.push(&mut links, key(row)));
            chain.insert_before(&mut links, key(3), key(next));
            let mut order: Vec<TaskKey> = (0..3).map(key).collect();
            order.insert(next, key(3));
            assert_eq!((chain.first(), chain.tasks(&links)), (Some(order[0]), order.clone()));
            order.into_iter().rev().for_each(|task| chain.remove(&mut links, task));
            assert!(chain.is_empty());
        }
    }

    #[test]
    fn chains_with_links_in_common_do_not_meet() {
        let (mut odd, mut even, mut links) = (Chain::default(), Chain::default(), Links::default());
        for row in 0..6 {
            if row % 2 == 0 { &mut even } else { &mut odd }.push(&mut links, key(row));
        }
        assert_eq!(even.tasks(&links), [0, 2, 4].map(key));
        assert_eq!(odd.tasks(&links), [1, 3, 5].map(key));
    }

    #[test]
    #[should_panic(expected = "it is the first")]
    fn chain_without_a_task_does_not_give_it() {
        let (mut chain, mut other, mut links) = (Chain::default(), Chain::default(), Links::default());
        chain.push(&mut links, key(1));
        other.push(&mut links, key(2));
        chain.remove(&mut links, key(2));
    }
}
