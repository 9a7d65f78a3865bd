//! A function over many inputs: results in the order of the inputs, and only so many in hand.
//!
//! ```text
//!   inputs ──fill──> │ window: submitted, held, ended │ ──front──> results
//!                        ^── queue full ──> held ──┘ resubmitted when another one has ended
//! ```
//!
//! It is driven by whoever takes results, without a thread of its own. While there is room in the queue, it
//! looks at the first call in the window alone and is told of nothing else.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::arrivals::Arrivals;
use super::call_error::{CallError, CallErrorKind, Cause};
use super::executor::Executor;
use super::future::Future;
use super::template::Template;
use super::until::Until;
use super::values::Decode;
use crate::id::FunctionName;
use crate::limits::{BACKOFF_MIN, MAP_BUFFER, QUEUE_PAUSE_MAX};
use crate::task::Payload;

/// Parts of the buffer that are refilled at a time.
const REFILLS: usize = 16;

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
    /// No limit of time, inputs taken one by one, at most 1024 in hand.
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
    template: Arc<Template>,
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
    /// Inputs in hand, the first of which has the number `first`.
    window: VecDeque<Slot<T>>,
    first: usize,
    /// The numbers of those that are [`Slot::Held`].
    held: VecDeque<usize>,
    /// How many are [`Slot::Submitted`].
    outstanding: usize,
    arrivals: Arrivals,
    /// How long to let a queue be that others fill.
    pause: Duration,
}

/// Where an input in hand is.
enum Slot<T> {
    /// Submitted, and whether its end arrives. The arguments are kept for the case that the queue is full.
    Submitted { future: Future<T>, args: Payload, is_watched: bool },
    /// The queue was full: it is to be submitted when another one has ended.
    Held(Payload),
    /// Ended: it is given out when those before it were.
    Ended(Result<T, CallError>),
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
        let mut map = Map {
            executor,
            template,
            encode,
            decode,
            until: Until::after(options.timeout),
            chunk_size: options.chunk_size.min(options.buffer_size),
            buffer_size: options.buffer_size,
            refill_size: (options.buffer_size / REFILLS).max(1),
            inputs: Some(inputs),
            window: VecDeque::new(),
            first: 0,
            held: VecDeque::new(),
            outstanding: 0,
            arrivals: Arrivals::default(),
            pause: BACKOFF_MIN,
        };
        map.fill();
        map
    }

    /// Takes inputs, a chunk at a time, as far as there is room; none while the queue is full.
    fn fill(&mut self) {
        while self.held.is_empty() && self.window.len() + self.chunk_size <= self.buffer_size {
            for _ in 0..self.chunk_size {
                let Some(input) = self.inputs.as_mut().and_then(Iterator::next) else {
                    self.inputs = None;
                    return;
                };
                let slot = match (self.encode)(self.template.function(), &input) {
                    Ok(args) => self.submit(self.first + self.window.len(), args),
                    Err(error) => Slot::Ended(Err(error)),
                };
                self.window.push_back(slot);
            }
        }
    }

    /// Submits the input of this number. What would be told of every further one ends the inputs.
    fn submit(&mut self, number: usize, args: Payload) -> Slot<T> {
        let if_full = self.arrivals.watcher(number);
        match self.executor.submit_encoded(&self.template, &args, Some(if_full), self.decode) {
            Ok(future) => {
                self.outstanding += 1;
                Slot::Submitted { future, args, is_watched: false }
            }
            Err(error) => {
                if matches!(error.kind(), CallErrorKind::ShutDown | CallErrorKind::Unreachable) {
                    self.inputs = None;
                }
                Slot::Ended(Err(error))
            }
        }
    }

    /// Takes in the end of a call, if it has ended and that was not taken in before. One that the full queue
    /// refused is held; the end of any other makes room for one that is.
    fn take_end(&mut self, number: usize) {
        let slot = number.checked_sub(self.first).and_then(|index| self.window.get_mut(index));
        let Some(slot) = slot else { return };
        let Slot::Submitted { future, args, .. } = slot else { return };
        let Some(result) = future.result_if_done() else { return };
        self.outstanding -= 1;
        if result.as_ref().is_err_and(CallError::is_queue_full) {
            *slot = Slot::Held(args.clone());
            self.held.push_back(number);
        } else {
            *slot = Slot::Ended(result);
            self.pause = BACKOFF_MIN;
            self.submit_held();
        }
    }

    fn submit_held(&mut self) {
        let Some(number) = self.held.pop_front() else { return };
        let index = number - self.first;
        if let Some(Slot::Held(args)) = self.window.get(index) {
            let slot = self.submit(number, args.clone());
            self.window[index] = slot;
        }
    }

    /// Has the end of the first call arrive; of all, while some are held.
    fn watch(&mut self) {
        let watched = if self.held.is_empty() { 1 } else { self.window.len() };
        for (slot, number) in self.window.iter_mut().take(watched).zip(self.first..) {
            if let Slot::Submitted { future, is_watched: is_watched @ false, .. } = slot {
                future.watch(self.arrivals.watcher(number));
                *is_watched = true;
            }
        }
    }

    /// Waits for something to change; says whether it did in time.
    fn wait(&mut self) -> bool {
        if self.outstanding > 0 {
            self.watch();
            return self.arrivals.next(self.until).map(|number| self.take_end(number)).is_some();
        }
        // The queue is full of others' tasks, whose ends nobody tells here.
        let remaining = self.until.remaining();
        thread::sleep(remaining.map_or(self.pause, |remaining| remaining.min(self.pause)));
        self.pause = (self.pause * 2).min(QUEUE_PAUSE_MAX);
        self.submit_held();
        self.until.remaining().is_none_or(|remaining| !remaining.is_zero())
    }

    /// Takes nothing more and cancels what has not ended.
    fn stop(&mut self) {
        self.inputs = None;
        self.held.clear();
        for slot in self.window.drain(..) {
            match slot {
                Slot::Submitted { future, .. } => {
                    future.cancel();
                }
                Slot::Held(_) | Slot::Ended(_) => {}
            }
        }
    }
}

impl<T, I: Iterator> Iterator for Map<T, I> {
    type Item = Result<T, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.take_end(self.first);
            match self.window.pop_front() {
                None => return None,
                Some(Slot::Ended(result)) => {
                    self.first += 1;
                    if self.buffer_size - self.window.len() >= self.refill_size {
                        self.fill();
                    }
                    return Some(result);
                }
                Some(slot @ (Slot::Submitted { .. } | Slot::Held(_))) => self.window.push_front(slot),
            }
            self.fill();
            if !self.wait() {
                let unfinished = self.window.len();
                self.stop();
                let cause = Cause::NotDone { unfinished };
                return Some(Err(CallError::new(self.template.function(), None, cause)));
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
        let function = self.template.function();
        write!(formatter, "Map({function}: {} given out, {} in hand)", self.first, self.window.len())
    }
}
