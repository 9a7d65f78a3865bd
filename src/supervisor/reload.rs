//! A new policy: pools come, go and change their size; no running attempt is touched.

use super::action::EndReason;
use super::pools::{Pool, PoolId};
use super::slots::Stage;
use super::{Policy, PoolPolicy, Supervisor};
use crate::id::SlotId;

impl Supervisor {
    pub(super) fn policy_changed(&mut self, policy: Policy) {
        self.policy = policy;
        for pool in &mut self.pools {
            pool.retired = true;
        }
        self.pool_order = self.policy.pools.clone().into_iter().map(|policy| self.adopt(policy)).collect();
        self.resize_pools();
        for id in self.pool_order.clone() {
            self.check_wear(id);
        }
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
        if !self.keeps_workers() {
            return;
        }
        for id in self.pool_order.clone() {
            let PoolPolicy { workers, standby, .. } = self.pool(id).policy;
            self.resize(id, workers as usize + standby as usize);
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

    /// Adds slots to a pool, or takes those away that are missed least.
    fn resize(&mut self, pool: PoolId, wanted: usize) {
        let slots = self.slots_by_rank(pool);
        for id in slots.iter().skip(wanted).rev() {
            self.retire_slot(*id);
        }
        for _ in slots.len()..wanted {
            self.add_slot(pool);
        }
        self.deal_roles(pool);
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
