//! Workers that stand by: started and ready beside those of the pool, so that a lost one is followed at once
//! and not after the start of a process.
//!
//! A pool has slots for both. Whenever a worker comes, goes, or is told to end, the roles are dealt anew: the
//! slots that are missed most are *in service* and take attempts, the others are *in reserve*.

use super::pools::PoolId;
use super::slots::{Role, Slot, Stage};
use super::{Notice, Supervisor};
use crate::id::SlotId;

/// How little a slot would be missed: by what its worker is doing, by its role, by its age.
type Rank = (u8, Role, SlotId);

impl Slot {
    fn rank(&self) -> Rank {
        let missed = match self.worker().map(|worker| (worker.stage, worker.held.is_empty())) {
            Some((Stage::Ready { .. }, false)) => 0,
            Some((Stage::Ready { .. }, true)) => 1,
            Some((Stage::Starting, _)) => 2,
            Some((Stage::Ending { .. }, _)) => 3,
            None => 4,
        };
        (missed, self.role, self.id)
    }
}

impl Supervisor {
    /// The slots that a pool wants to keep, the one that is missed most first.
    pub(super) fn slots_by_rank(&self, pool: PoolId) -> Vec<SlotId> {
        let slots = self.pool(pool).slots.iter().filter_map(|id| self.slots.get(id));
        let mut ranks: Vec<Rank> = slots.filter(|slot| !slot.retired).map(Slot::rank).collect();
        ranks.sort_unstable();
        ranks.into_iter().map(|(_, _, id)| id).collect()
    }

    /// Has as many slots of a pool in service as it should, and the others in reserve.
    pub(super) fn deal_roles(&mut self, pool: PoolId) {
        if !self.keeps_workers() {
            return;
        }
        let workers = self.pool(pool).policy.workers as usize;
        for (place, id) in self.slots_by_rank(pool).into_iter().enumerate() {
            let role = if place < workers { Role::Service } else { Role::Reserve };
            let Some(slot) = self.slots.get_mut(&id).filter(|slot| slot.role != role) else { continue };
            slot.role = role;
            let worker = slot.worker_id();
            let serves = role == Role::Service && slot.worker().is_some_and(|worker| worker.capacity() > 0);
            if serves {
                let pool = self.pool(pool).policy.name.clone();
                self.note(Notice::StandbyPromoted { worker, pool });
            }
            self.review(id);
        }
    }
}
