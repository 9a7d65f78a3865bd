//! The supervisor, told what the daemon can tell it, in any order: hostile workers and clients, ids that
//! collide, policies that change in mid-work.
//!
//! ```text
//!   input ──> script ──> world: an event that the daemon could send ──> Supervisor
//!                          ^                                                │
//!                          └────────── ledger: is every action in order? <──┘
//! ```
//!
//! The simulation of the ordinary suite judges more, in a world whose workers are mostly sane. Here they
//! may say anything, so that only what holds whatever they say is asked for. In the end all behave: then
//! every task ends, every request is answered, and the daemon exits when it is told to.

mod ledger;
mod pieces;
mod policies;
mod script;
mod world;

use super::draw::Draw;
use world::World;

/// Most events of one script.
const EVENTS_MAX: usize = 2000;

/// A script of events.
pub fn supervisor(input: &[u8]) {
    let mut draw = Draw::new(input);
    let mut world = World::new(policies::draw(&mut draw), draw.byte());
    for _ in 0..EVENTS_MAX {
        if draw.is_over() || world.ledger.has_exited {
            break;
        }
        script::act(&mut world, &mut draw);
    }
    world.end(draw.below(4));
}
