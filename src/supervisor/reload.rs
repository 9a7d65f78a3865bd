//! A new policy: pools come, go and change their size; no running attempt is touched.

use super::action::EndReason;
use super::pools::{Pool, PoolId};
use super::slots::Stage;
use super::{Policy, PoolPolicy, Supervisor};
use crate::id::SlotId;
use crate::message::status::Phase;

impl Supervisor {
    pub(super) fn policy_changed(&mut self, policy: Policy) {
        self.policy = policy;
        for pool in &mut self.pools {
            pool.retired = true;
        }
        self.pool_order = self.policy.pools.clone().into_iter().map(|policy| self.adopt(policy)).collect();
        self.resize_pools();
        for id in self.slots.keys().copied().collect::<Vec<SlotId>>() {
            self.replace_if_outdated(id);
        }
        self.refuse_forbidden();
        self.place_waiting();
        for user in self.tasks.users() {
            self.expire_results_of(user);
        }
        self.expire_results();
    }

    /// Gives the pool of that name its policy, or adds it.
    fn adopt(&mut self, policy: PoolPolicy) -> PoolId {
        let known = self.pools.iter().position(|pool| pool.policy.name == policy.name);
        match known {
            Some(index) => {
                self.pools[index].policy = policy;
                self.pools[index].retired = false;
                PoolId(index)
            }
            None => {
                let mut pool = Pool::new(policy);
                for (connection, client) in self.clients.iter().filter(|(_, client)| client.blocked) {
                    pool.queue.block(*connection, client.peer.user);
                }
                self.pools.push(pool);
                PoolId(self.pools.len() - 1)
            }
        }
    }

    fn resize_pools(&mut self) {
        match self.phase {
            Phase::Serving | Phase::Draining => {}
            Phase::ShuttingDown | Phase::Stopped => return,
        }
        for id in self.pool_order.clone() {
            self.resize(id, self.pool(id).policy.workers as usize);
        }
    }

    /// Takes away the slots of pools that the policy leaves out, once they have no tasks.
    pub(super) fn release_retired_pools(&mut self) {
        for index in 0..self.pools.len() {
            let pool = &self.pools[index];
            if pool.retired && pool.unfinished == 0 && !pool.slots.is_empty() {
                self.resize(PoolId(index), 0);
            }
        }
    }

    fn resize(&mut self, pool: PoolId, workers: usize) {
        let in_use = |supervisor: &Self| -> Vec<SlotId> {
            let slots = supervisor.pool(pool).slots.iter().copied();
            slots.filter(|id| supervisor.slots.get(id).is_some_and(|slot| !slot.retired)).collect()
        };
        let mut slots = in_use(self);
        while slots.len() > workers {
            if let Some(id) = self.least_useful(&slots) {
                slots.retain(|other| *other != id);
                self.retire_slot(id);
            }
        }
        for _ in slots.len()..workers {
            self.add_slot(pool);
        }
    }

    /// The slot that is missed least: an empty one, then one that starts, then an idle one, then the youngest.
    fn least_useful(&self, slots: &[SlotId]) -> Option<SlotId> {
        slots.iter().copied().max_by_key(|id| {
            let worker = self.slots.get(id).and_then(|slot| slot.worker());
            let uselessness = match worker.map(|worker| (worker.stage, worker.held.is_empty())) {
                None => 3,
                Some((Stage::Starting | Stage::Ending { .. }, _)) => 2,
                Some((Stage::Ready { .. }, true)) => 1,
                Some((Stage::Ready { .. }, false)) => 0,
            };
            (uselessness, *id)
        })
    }

    fn retire_slot(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.retired = true;
        match slot.worker().map(|worker| worker.stage) {
            None => self.remove_slot(id),
            Some(Stage::Starting) => self.end_worker(id, EndReason::Replaced),
            Some(Stage::Ready { .. } | Stage::Ending { .. }) => self.review(id),
        }
    }

    /// Ends a worker that its pool would start otherwise by now, as soon as it is idle.
    fn replace_if_outdated(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get(&id) else { return };
        let revision = self.pool(slot.pool).policy.revision;
        match slot.worker().map(|worker| (worker.stage, worker.revision)) {
            Some((Stage::Starting, started)) if started != revision => {
                self.end_worker(id, EndReason::Replaced)
            }
            Some(_) => self.review(id),
            None => {}
        }
    }
}
