//! The pools that one could pick instead, as far as they are installed. Their programs are in `benches/peers`.

#[path = "../peers/beanstalk.rs"]
pub mod beanstalk;
#[path = "../peers/gearman.rs"]
pub mod gearman;
#[path = "../peers/python.rs"]
pub mod python;
#[path = "../peers/server.rs"]
mod server;

use crate::Failure;

/// A pool of two workers that is measured beside this one.
pub trait Peer {
    /// What it is called in the tables.
    fn name(&self) -> &'static str;

    /// Microseconds of each of so many calls of nothing, one after the other.
    fn round_trips(&mut self, trips: usize) -> Result<Vec<f64>, Failure>;

    /// Calls of nothing in a second, as many at a time as it takes, each with a result of its own.
    fn throughput(&mut self, tasks: usize) -> Result<f64, Failure>;
}

/// Every peer that is there, warmed up; the others are named on standard error.
pub fn all() -> Result<Vec<Box<dyn Peer>>, Failure> {
    let mut peers: Vec<Box<dyn Peer>> = Vec::new();
    for kind in python::Kind::ALL {
        peers.extend(python::Python::start(kind)?.map(|peer| Box::new(peer) as Box<dyn Peer>));
    }
    for manner in gearman::Manner::ALL {
        peers.extend(gearman::Gearman::start(manner)?.map(|peer| Box::new(peer) as Box<dyn Peer>));
    }
    peers.extend(beanstalk::Beanstalk::start()?.map(|peer| Box::new(peer) as Box<dyn Peer>));
    for peer in &mut peers {
        peer.round_trips(10)?;
    }
    Ok(peers)
}
