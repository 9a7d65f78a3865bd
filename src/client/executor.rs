//! The executor: where calls are made, with which options, and how it is all brought to an end.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Serialize, de::DeserializeOwned};

use super::call_error::{CallError, Cause};
use super::connection::Connection;
use super::error::Error;
use super::exchange::{Exchange, Which};
use super::future::Future;
use super::map::{Encode, Map, MapOptions};
use super::template::{Template, Templates};
use super::values::{self, Decode};
use crate::id::{FunctionName, PoolName};
use crate::task::{Deadline, Payload, TaskSpec};

/// Makes calls of functions that the workers of a daemon run: Python's `concurrent.futures.Executor`.
///
/// All clones share one connection and can be used by any number of threads. Each carries the options of
/// the calls that are made with it: `executor.with_retries(2)` is another handle of the same executor.
///
/// Dropping the last handle takes nothing new and waits for all calls to end, as Python's `with` does,
/// unless it was [shut down](Self::shutdown) before.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// let executor = poold::Executor::connect()?;
/// let patient = executor.with_timeout(Duration::from_secs(60)).with_retries(2);
/// let futures = [
///     executor.submit::<bool>("is_prime", 112272535095293_u64)?,
///     patient.submit::<bool>("is_prime_trial", 1099726899285419_u64)?,
/// ];
/// for future in futures {
///     println!("{}", future.result(None)?);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Executor {
    handle: Arc<Handle>,
    options: Options,
    /// Of the calls that were made with these options.
    templates: Arc<Templates>,
}

/// What all clones of an executor hold; the last of them brings it to an end.
#[derive(Debug)]
struct Handle {
    exchange: Arc<Exchange>,
}

/// What calls are made with.
#[derive(Clone, Debug, Default)]
struct Options {
    pool: Option<PoolName>,
    priority: i16,
    timeout: Option<Duration>,
    deadline: Option<Deadline>,
    retries: u32,
    delay: Option<Duration>,
}

impl Executor {
    /// An executor over the daemon that listens where one is expected: on `$POOLD_SOCKET` alone if that is
    /// set, else on `$XDG_RUNTIME_DIR/poold.sock`, else on `/run/poold/poold.sock`.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub fn connect() -> Result<Self, Error> {
        Connection::open(None).map(Executor::over)
    }

    /// An executor over the daemon that listens on `socket`.
    ///
    /// # Errors
    /// As [`Connection::connect`].
    pub fn connect_to(socket: impl AsRef<Path>) -> Result<Self, Error> {
        Connection::connect(socket.as_ref()).map(Executor::over)
    }

    /// An executor over `connection`. When that has ended, the next call connects to the same path again,
    /// if it had one.
    pub(crate) fn over(connection: Connection) -> Self {
        let handle = Handle { exchange: Exchange::over(connection) };
        Executor { handle: Arc::new(handle), options: Options::default(), templates: Arc::default() }
    }

    /// This executor, with calls going to the pool of that name.
    ///
    /// # Errors
    /// It is no name of a pool. Whether there is one of that name shows when a call is made.
    pub fn with_pool(&self, pool: &str) -> Result<Self, crate::id::BadName> {
        let pool = PoolName::new(pool)?;
        Ok(self.with(|options| options.pool = Some(pool)))
    }

    /// This executor, with calls of that priority: larger ones go first. It is 0 by default.
    pub fn with_priority(&self, priority: i16) -> Self {
        self.with(|options| options.priority = priority)
    }

    /// This executor, with each attempt of a call ended as timed out if it takes longer.
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        self.with(|options| options.timeout = Some(timeout))
    }

    /// This executor, with each call ended as timed out so long after its submission, whether it waits,
    /// runs or is retried.
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        self.with(|options| options.deadline = Some(Deadline::After(deadline)))
    }

    /// This executor, with each call ended as timed out at that instant, whether it waits, runs or is
    /// retried.
    pub fn with_deadline_at(&self, instant: SystemTime) -> Self {
        let since_epoch = instant.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.with(|options| options.deadline = Some(Deadline::At(since_epoch)))
    }

    /// This executor, with attempts that crashed, timed out or were lost repeated so often; at most 1000
    /// times.
    pub fn with_retries(&self, retries: u32) -> Self {
        self.with(|options| options.retries = retries)
    }

    /// This executor, with calls that wait so long before they are queued.
    pub fn with_delay(&self, delay: Duration) -> Self {
        self.with(|options| options.delay = Some(delay))
    }

    fn with(&self, change: impl FnOnce(&mut Options)) -> Self {
        let mut executor = Executor { templates: Arc::default(), ..self.clone() };
        change(&mut executor.options);
        executor
    }

    /// Has a worker run `function`, and does not wait for it.
    ///
    /// A tuple, an array or a `Vec` is the list of the arguments, `()` is none, and any other value is one
    /// (a list as the one argument is written `(list,)`). They travel as JSON, so an integer does for any
    /// integer type that holds it.
    ///
    /// # Errors
    /// What can be told without asking the daemon:
    /// - [`Refused`](super::CallErrorKind::Refused): that is no name of a function, or the arguments are
    ///   larger than the daemon takes.
    /// - [`BadArguments`](super::CallErrorKind::BadArguments): JSON has no form for the arguments.
    /// - [`ShutDown`](super::CallErrorKind::ShutDown): the executor was shut down.
    /// - [`Unreachable`](super::CallErrorKind::Unreachable): the daemon went away and is not back.
    ///
    /// What the daemon says, that it does not know the function or that its queue is full, the future tells.
    pub fn submit<Out: DeserializeOwned + 'static>(
        &self,
        function: &str,
        args: impl Serialize,
    ) -> Result<Future<Out>, CallError> {
        let template = self.template(function)?;
        let args = values::arguments(template.function(), &args)?;
        self.submit_encoded(&template, &args, values::result)
    }

    /// Has a worker run `function` on arguments that the caller has encoded, for a result that the caller
    /// decodes.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn submit_payload(&self, function: &str, args: Payload) -> Result<Future<Payload>, CallError> {
        self.submit_encoded(&self.template(function)?, &args, values::as_it_is)
    }

    /// The core of every submission.
    pub(super) fn submit_encoded<T>(
        &self,
        template: &Arc<Template>,
        args: &Payload,
        decode: Decode<T>,
    ) -> Result<Future<T>, CallError> {
        let exchange = &self.handle.exchange;
        let call = exchange.submit(template, args)?;
        Ok(Future::new(Arc::clone(exchange), call, decode))
    }

    pub(super) fn exchange(&self) -> &Arc<Exchange> {
        &self.handle.exchange
    }

    /// What calls of `function` by this handle have in common.
    ///
    /// # Errors
    /// [`Refused`](super::CallErrorKind::Refused) when that is no name of a function.
    pub(super) fn template(&self, function: &str) -> Result<Arc<Template>, CallError> {
        self.templates.of(function, |name| self.options.spec(name))
    }

    /// Has workers run `function` on each of `inputs`; the results come in the order of the inputs.
    ///
    /// An input is what [`submit`](Self::submit) takes; for a function of several arguments, a tuple.
    /// At most 16384 inputs are in hand at a time, so they may be endless: taken, and their results not given
    /// out. Where the daemon's queue is full, it waits.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let executor = poold::Executor::connect()?;
    /// for is_prime in executor.map::<bool, _>("is_prime", 2_u64..)?.take(100) {
    ///     println!("{}", is_prime?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`submit`](Self::submit), if `function` is no name or the executor was shut down. Everything else
    /// is told in the place of a result.
    pub fn map<Out, I>(&self, function: &str, inputs: I) -> Result<Map<Out, I::IntoIter>, CallError>
    where
        Out: DeserializeOwned + 'static,
        I: IntoIterator<Item: Serialize>,
    {
        self.map_with(function, inputs, MapOptions::new())
    }

    /// As [`map`](Self::map), with a limit of time, or another way to go through the inputs.
    ///
    /// # Errors
    /// As [`map`](Self::map).
    pub fn map_with<Out, I>(
        &self,
        function: &str,
        inputs: I,
        options: MapOptions,
    ) -> Result<Map<Out, I::IntoIter>, CallError>
    where
        Out: DeserializeOwned + 'static,
        I: IntoIterator<Item: Serialize>,
    {
        let template = self.template(function)?;
        self.map_encoded(template, inputs.into_iter(), options, values::arguments, values::result)
    }

    /// The core of every map.
    pub(super) fn map_encoded<T, I: Iterator>(
        &self,
        template: Arc<Template>,
        inputs: I,
        options: MapOptions,
        encode: Encode<I::Item>,
        decode: Decode<T>,
    ) -> Result<Map<T, I>, CallError> {
        if self.handle.exchange.is_shut_down() {
            return Err(CallError::new(template.function(), None, Cause::ShutDown));
        }
        Ok(Map::new(self.clone(), template, inputs, options, encode, decode))
    }

    /// Cancels every call that was made and has not ended, those that run among them.
    pub fn cancel_all(&self) {
        self.handle.exchange.cancel_all(Which::All);
    }

    /// Takes no further calls, of this handle and of all others.
    ///
    /// With `cancel_futures`, those that no worker has begun with are cancelled. With `wait`, returns when
    /// all calls have ended and all callbacks were called; called from a callback, it does not wait. May be
    /// called again.
    pub fn shutdown(&self, wait: bool, cancel_futures: bool) {
        let exchange = &self.handle.exchange;
        exchange.shut_down();
        if cancel_futures {
            exchange.cancel_all(Which::Pending);
        }
        if wait {
            exchange.wait();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.exchange.is_shut_down() {
            self.exchange.shut_down();
            self.exchange.wait();
        }
    }
}

impl Options {
    fn spec(&self, function: FunctionName) -> TaskSpec {
        TaskSpec {
            pool: self.pool.clone(),
            priority: self.priority,
            timeout: self.timeout,
            deadline: self.deadline,
            retries: self.retries,
            delay: self.delay,
            report_start: true,
            ..TaskSpec::new(function)
        }
    }
}
