//! The daemon's executable, and its workers'.

use poold::worker::{Registry, run_if_started_as_worker};

fn main() {
    run_if_started_as_worker(Registry::built_in);
}
