//! A function over many inputs: results in the order of the inputs, and only so many in hand.
//!
//! ```text
//!   inputs ──fill──> Series: submitted ──arrivals──> Ends ──next──> results
//!                        ^── held <── queue full ──┘ resubmitted when another one has ended
//! ```
//!
//! It is driven by whoever takes results, without a thread of its own. While there is room in the queue, it
//! waits for the first call in hand alone and is told of nothing else.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::call_error::{CallError, CallErrorKind, Cause};
use super::ends::Ends;
use super::executor::Executor;
use super::series::{Series, Wanted};
use super::stages::{Arrival, What};
use super::template::Template;
use super::until::Until;
use super::values::Decode;
use crate::id::FunctionName;
use crate::limits::{BACKOFF_MIN, MAP_BUFFER, QUEUE_PAUSE_MAX};
use crate::task::Payload;

/// Parts of the buffer that are refilled at a time.
const REFILLS: usize = 4;

/// A buffer that holds no more is refilled with each result: the workers need all of it.
const SMALL_BUFFER: usize = 64;

/// How [`Executor::map_with`] goes through its inputs.
#[derive(Clone, Debug)]
pub struct MapOptions {
    timeout: Option<Duration>,
    chunk_size: usize,
    buffer_size: usize,
}

impl Default for MapOptions {
    fn default() -> Self {
        MapOptions { timeout: None, chunk_size: 1, buffer_size: MAP_BUFFER }
    }
}

impl MapOptions {
    /// No limit of time, inputs taken one by one, at most 16384 in hand.
    pub fn new() -> Self {
        MapOptions::default()
    }

    /// How long after the call of `map` the last result may come. Then the results end with an error of the
    /// kind [`NotDone`](CallErrorKind::NotDone), and the calls that have not ended are cancelled.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        MapOptions { timeout: Some(timeout), ..self }
    }

    /// How many inputs are taken and sent at a time. Each is a call with an outcome of its own all the same.
    ///
    /// # Panics
    /// If it is 0.
    #[must_use]
    pub fn chunk_size(self, chunk_size: usize) -> Self {
        assert!(chunk_size > 0, "a chunk has at least one input");
        MapOptions { chunk_size, ..self }
    }

    /// How many inputs are in hand at most: taken, and their results not given out.
    ///
    /// # Panics
    /// If it is 0.
    #[must_use]
    pub fn buffer_size(self, buffer_size: usize) -> Self {
        assert!(buffer_size > 0, "a buffer holds at least one input");
        MapOptions { buffer_size, ..self }
    }
}

/// How an input becomes arguments.
pub(crate) type Encode<In> = fn(&FunctionName, &In) -> Result<Payload, CallError>;

/// The results of a function, in the order of its inputs: what [`Executor::map`] returns.
///
/// A call without a result is an error in its place, and the others go on. Dropping it cancels the calls
/// that have not ended.
pub struct Map<T, I: Iterator> {
    executor: Executor,
    series: Arc<Series>,
    encode: Encode<I::Item>,
    decode: Decode<T>,
    until: Until,
    chunk_size: usize,
    buffer_size: usize,
    /// Room for how many inputs there must be before further ones are taken, unless a result is waited for:
    /// so they leave many at a time.
    refill_size: usize,
    /// Until there are no more, or none are wanted.
    inputs: Option<I>,
    /// The arguments of the inputs in hand, the first of which has the number `first`: for the case that the queue is
    /// full. None of an input that was not submitted.
    args: VecDeque<Payload>,
    first: u64,
    /// The numbers of those that the queue had no room for: they are submitted again when others have ended.
    held: VecDeque<u64>,
    /// How many were submitted, and their ends not taken in.
    outstanding: usize,
    ends: Ends,
    /// Room for what has arrived.
    arrivals: Vec<Arrival>,
    /// How long to let a queue be that others fill.
    pause: Duration,
}

impl<T, I: Iterator> Map<T, I> {
    /// Begins at once, with as many inputs as the buffer holds.
    pub(super) fn new(
        executor: Executor,
        template: Arc<Template>,
        inputs: I,
        options: MapOptions,
        encode: Encode<I::Item>,
        decode: Decode<T>,
    ) -> Self {
        let series = executor.exchange().begin_series(template);
        let mut map = Map {
            executor,
            series,
            encode,
            decode,
            until: Until::after(options.timeout),
            chunk_size: options.chunk_size.min(options.buffer_size),
            buffer_size: options.buffer_size,
            refill_size: if options.buffer_size > SMALL_BUFFER { options.buffer_size / REFILLS } else { 1 },
            inputs: Some(inputs),
            args: VecDeque::new(),
            first: 0,
            held: VecDeque::new(),
            outstanding: 0,
            ends: Ends::default(),
            arrivals: Vec::new(),
            pause: BACKOFF_MIN,
        };
        map.fill();
        map
    }

    /// Takes inputs, a chunk at a time, as far as there is room; none while the queue is full.
    fn fill(&mut self) {
        while self.held.is_empty() && self.args.len() + self.chunk_size <= self.buffer_size {
            for _ in 0..self.chunk_size {
                let Some(input) = self.inputs.as_mut().and_then(Iterator::next) else {
                    self.inputs = None;
                    return;
                };
                let call = self.first + self.args.len() as u64;
                let args = match (self.encode)(self.series.template().function(), &input) {
                    Ok(args) => {
                        self.submit(call, &args);
                        args
                    }
                    Err(error) => {
                        self.ends.insert(call, None, Err(error));
                        Payload::default()
                    }
                };
                self.args.push_back(args);
            }
        }
    }

    /// Submits the call of this number. What would be told of every further one ends the inputs.
    fn submit(&mut self, call: u64, args: &Payload) {
        match self.executor.exchange().submit_in(&self.series, call, args) {
            Ok(()) => self.outstanding += 1,
            Err(error) => {
                if matches!(error.kind(), CallErrorKind::ShutDown | CallErrorKind::Unreachable) {
                    self.inputs = None;
                }
                self.ends.insert(call, None, Err(error));
            }
        }
    }

    /// Takes in what has arrived, waiting for something if it is `wanted`; says whether that came in time.
    fn take_in(&mut self, wanted: Wanted) -> bool {
        let mut arrivals = mem::take(&mut self.arrivals);
        let has_come = self.series.take(self.first, wanted, self.until, &mut arrivals);
        for Arrival { call, what } in arrivals.drain(..) {
            match what {
                What::Results { task, results } => {
                    let count = results.count() as usize;
                    self.ends.insert_results(call, task, results);
                    self.have_ended(count);
                }
                What::End { task, end } => {
                    self.ends.insert(call, task, end);
                    self.have_ended(1);
                }
                What::Full => {
                    self.outstanding -= 1;
                    self.held.push_back(call);
                }
            }
        }
        self.arrivals = arrivals;
        has_come
    }

    /// The end of each call makes room for one that is held.
    fn have_ended(&mut self, count: usize) {
        self.outstanding -= count;
        self.pause = BACKOFF_MIN;
        self.submit_held(count);
    }

    fn submit_held(&mut self, count: usize) {
        for _ in 0..count.min(self.held.len()) {
            let Some(call) = self.held.pop_front() else { return };
            let args = self.args[(call - self.first) as usize].clone();
            self.submit(call, &args);
        }
    }

    /// Waits for something to change; says whether it did in time.
    fn wait(&mut self) -> bool {
        if self.outstanding > 0 {
            let is_full = !self.held.is_empty();
            return self.take_in(if is_full { Wanted::Anything } else { Wanted::Call(self.first) });
        }
        // The queue is full of others' tasks, whose ends nobody tells here.
        let remaining = self.until.remaining();
        thread::sleep(remaining.map_or(self.pause, |remaining| remaining.min(self.pause)));
        self.pause = (self.pause * 2).min(QUEUE_PAUSE_MAX);
        self.submit_held(1);
        self.until.remaining().is_none_or(|remaining| !remaining.is_zero())
    }

    /// Takes nothing more and cancels what has not ended.
    fn stop(&mut self) {
        self.inputs = None;
        self.held.clear();
        self.args.clear();
        self.ends.clear();
        self.executor.exchange().end_series(&self.series);
    }
}

impl<T, I: Iterator> Iterator for Map<T, I> {
    type Item = Result<T, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(result) = self.ends.next(self.first, self.series.template(), self.decode) {
                self.first += 1;
                self.args.pop_front();
                if self.buffer_size - self.args.len() >= self.refill_size {
                    self.fill();
                }
                return Some(result);
            }
            if self.args.is_empty() {
                return None;
            }
            if self.take_in(Wanted::Nothing) {
                continue;
            }
            self.fill();
            if !self.wait() {
                let unfinished = self.args.len();
                self.stop();
                let cause = Cause::NotDone { unfinished };
                return Some(Err(CallError::new(self.series.template().function(), None, cause)));
            }
        }
    }
}

impl<T, I: Iterator> Drop for Map<T, I> {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<T, I: Iterator> fmt::Debug for Map<T, I> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let function = self.series.template().function();
        write!(formatter, "Map({function}: {} given out, {} in hand)", self.first, self.args.len())
    }
}
