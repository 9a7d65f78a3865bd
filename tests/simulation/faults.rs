//! What can go wrong in the fake world, how likely it is in one run, and how often it happened.
//!
//! Each run draws its own likelihoods, many of them zero, so that some runs know only crashes and others
//! only cancels (swarm testing: Groce et al., ISSTA 2012).

use std::fmt;

use fastrand::Rng;

/// Defines the faults and their list in one go.
macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident,)*) => {
        /// A way in which the world misbehaves.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $($(#[$doc])* $fault,)* }

        impl Fault {
            /// Every fault.
            pub const ALL: &'static [Fault] = &[$(Fault::$fault,)*];
        }
    };
}

faults! {
    /// A process takes long to be started.
    SpawnSlow,
    /// A process cannot be started.
    SpawnFails,
    /// A worker dies before it is ready.
    DiesBeforeReady,
    /// A worker says that it cannot become ready.
    NotReady,
    /// A worker never becomes ready.
    NeverReady,
    /// A ready worker dies with nothing to do.
    DiesIdle,
    /// A worker dies with attempts that it has not started.
    DiesUnstarted,
    /// A worker dies under a function.
    DiesRunning,
    /// A worker dies after it has written a result that was not read yet.
    DiesAfterResult,
    /// A worker dies after it was told to end.
    DiesStopping,
    /// A worker dies while the daemon drains.
    DiesDraining,
    /// A process goes on after TERM.
    IgnoresTerminate,
    /// A process is stopped and answers nothing.
    Freezes,
    /// A worker takes too much memory.
    Grows,
    /// A worker is worn by its attempts.
    WornByAttempts,
    /// A worker is worn by its age.
    WornByLifetime,
    /// A worker that stood by takes the place of another.
    StandbyServes,
    /// A function is quarantined.
    Quarantined,
    /// A task of a quarantined function is refused.
    QuarantineRefuses,
    /// A function that is quarantined, or not, is released.
    Release,
    /// A pool is degraded.
    Degraded,
    /// A degraded pool refuses a task.
    DegradedRefuses,
    /// A worker breaks the protocol and lives.
    BreaksProtocol,
    /// A worker closes its socket and lives.
    ClosesSocket,
    /// A worker speaks of attempts that it does not have.
    SpeaksOutOfTurn,
    /// A worker says that it is ready and that it is not, or says it twice.
    ContradictsItself,
    /// A message of a dead generation arrives.
    LateMessage,
    /// An attempt starts while the request to give it back is on its way.
    RecallCrossesStart,
    /// An attempt is given back.
    RecallAnswered,
    /// A function runs for ever.
    NeverEnds,
    /// A function fails.
    FunctionFails,
    /// A function submits tasks and waits for them.
    FunctionSubmits,
    /// A function submits when its task has ended, or is to be tried again.
    FunctionSpeaksTooLate,
    /// A function asks for a pool that could wait for itself.
    WouldDeadlock,
    /// A worker dies under a function that waits for what it has submitted.
    DiesWaiting,
    /// A task is cancelled whose function waits for what it has submitted.
    CancelWaiting,
    /// A connection ends with tasks that are not done.
    ClientDies,
    /// A client does not read its outcomes.
    ClientBlocks,
    /// A client does not read while the daemon drains.
    DrainHeldUp,
    /// A delayed task is cancelled.
    CancelDelayed,
    /// A pending task is cancelled.
    CancelPending,
    /// A task that a worker holds unstarted is cancelled.
    CancelUnstarted,
    /// A running task is cancelled.
    CancelRunning,
    /// A task is cancelled while its result is on its way.
    CancelCrossesResult,
    /// A client asks about a task of another user.
    StrangerAsks,
    /// A deadline passes over a delayed task.
    DeadlineDelayed,
    /// A deadline passes over a pending task.
    DeadlinePending,
    /// A deadline passes over a task that a worker has.
    DeadlineRunning,
    /// A deadline passes over a task that waits to be tried again.
    DeadlineRetrying,
    /// An attempt takes too long.
    Timeout,
    /// A function is asked for that nobody has.
    UnknownFunction,
    /// A submission comes over a full queue.
    QueueFull,
    /// A submission comes from a user who has as many tasks as one may.
    UserQueueFull,
    /// A function is asked for by a user who may not run it.
    ForbiddenFunction,
    /// A result is given up since its user has as many as one may.
    UserResultsFull,
    /// Time is noticed late.
    ClockLags,
    /// The policy changes.
    Reload,
    /// The daemon is told to drain.
    Drain,
    /// The daemon is told to stop.
    Stop,
    /// The daemon is told to stop again.
    StopAgain,
    /// Several tasks are submitted at once.
    SubmitsAll,
    /// The ends of several attempts are told at once.
    EndTogether,
    /// Several attempts are taken back at once.
    RecalledTogether,
    /// Several attempts are passed over at once.
    PassedOverTogether,
}

/// How likely each fault is in one run, in thousandths.
#[derive(Clone, Debug)]
pub struct Odds {
    per_mille: Vec<u32>,
    is_healed: bool,
}

impl Odds {
    /// Draws them: about half of the faults never happen in this run.
    pub fn draw(rng: &mut Rng) -> Self {
        let per_mille = Fault::ALL.iter().map(|_| if rng.bool() { 0 } else { rng.u32(5..250) }).collect();
        Odds { per_mille, is_healed: false }
    }

    /// From here on nothing goes wrong any more.
    pub fn heal(&mut self) {
        self.is_healed = true;
    }

    /// Whether a fault strikes now.
    pub fn strike(&self, rng: &mut Rng, fault: Fault) -> bool {
        !self.is_healed && rng.u32(0..1000) < self.per_mille[fault as usize]
    }
}

/// How often each fault happened.
#[derive(Clone, Debug)]
pub struct Tally {
    counts: Vec<u64>,
}

impl Tally {
    /// Nothing yet.
    pub fn new() -> Self {
        Tally { counts: vec![0; Fault::ALL.len()] }
    }

    /// Once more.
    pub fn count(&mut self, fault: Fault) {
        self.counts[fault as usize] += 1;
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Tally) {
        for (sum, count) in self.counts.iter_mut().zip(&other.counts) {
            *sum += count;
        }
    }

    /// Faults that never happened.
    pub fn missing(&self) -> Vec<Fault> {
        Fault::ALL.iter().copied().filter(|fault| self.counts[*fault as usize] == 0).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in Fault::ALL {
            writeln!(formatter, "{:>10}  {fault:?}", self.counts[*fault as usize])?;
        }
        Ok(())
    }
}
