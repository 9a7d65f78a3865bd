//! The functions of a worker: registered under names, looked up and called.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::call::catching_panics;
use super::command::CommandFunction;
use super::signature::Signature;
use super::{arguments, cut_message, process, result, run};
use crate::function::Function;
use crate::id::{BadName, FunctionName, RUN_FUNCTION};
use crate::limits::FUNCTIONS_PER_WORKER_MAX;
use crate::message::command::CommandSpec;
use crate::message::status::FunctionInfo;
use crate::message::worker::Report;
use crate::task::{Failure, FailureKind, Payload};

/// A function was registered that cannot be offered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// Its name is no function name.
    #[error(transparent)]
    Name(#[from] BadName),
    /// Its name is taken.
    #[error("function `{0}` is registered twice")]
    Duplicate(FunctionName),
    /// It has another number of parameter names than its type has parameters.
    #[error(
        "function `{function}` takes {takes} argument{}, and {names} parameter name{} given",
        if *.takes == 1 { "" } else { "s" },
        if *.names == 1 { " is" } else { "s are" }
    )]
    ParameterNames {
        /// Which function.
        function: FunctionName,
        /// How many arguments its type takes.
        takes: usize,
        /// How many names were given.
        names: usize,
    },
    /// There are more functions than one worker may have.
    #[error("{0} functions are registered; {FUNCTIONS_PER_WORKER_MAX} is the most for a worker")]
    TooMany(usize),
}

/// Functions on their way to become a worker's.
///
/// A mistake in a registration is kept until [`finish`](Self::finish), so that registrations can be
/// chained; the worker then tells the daemon, and the operator reads it in the log.
///
/// ```
/// use poold::message::worker::Report;
/// use poold::task::{Encoding, Payload};
/// use poold::worker::Registry;
///
/// fn divide((dividend, divisor): (u64, u64)) -> Result<u64, String> {
///     dividend.checked_div(divisor).ok_or_else(|| format!("{dividend} cannot be divided by zero"))
/// }
///
/// let functions = Registry::new()
///     .register("divide", &["DIVIDEND", "DIVISOR"], "The whole part of a quotient.", divide)
///     .finish(false)?;
///
/// assert_eq!(functions.infos()[0].signature, "divide(DIVIDEND: u64, DIVISOR: u64) -> u64");
/// let result = functions.call(&"divide".parse()?, Payload::from_args(["85", "2"]));
/// assert_eq!(result, Report::Ok(Payload::new(Encoding::Json, "42")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct Registry {
    functions: BTreeMap<FunctionName, Entry>,
    initializers: Vec<Initializer>,
    mistake: Option<RegisterError>,
}

/// When a function is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offered {
    Always,
    /// Only where the configuration allows to inject faults.
    ForFaults,
}

/// What runs when a function is called.
type Body = Box<dyn Fn(Payload) -> Result<Payload, Failure> + Send + Sync>;

/// What is done once in each worker.
type Initializer = Box<dyn FnOnce() -> Result<(), Failure> + Send + Sync>;

/// A function that is registered.
struct Entry {
    info: FunctionInfo,
    offered: Offered,
    body: Body,
}

impl Registry {
    /// No functions.
    pub fn new() -> Self {
        Registry::default()
    }

    /// Adds the body of `function`, with a name for each of its parameters and a sentence on what it does.
    /// What it returns is `Out`, or a `Result` of it whose error is text.
    ///
    /// Otherwise as [`register`](Self::register), which takes any name and any types.
    #[must_use]
    pub fn add<In, Out, R, F>(
        self,
        function: Function<In, Out>,
        parameters: &[&str],
        summary: &str,
        body: F,
    ) -> Self
    where
        In: DeserializeOwned + 'static,
        Out: Serialize + 'static,
        R: Returns<Out>,
        F: Fn(In) -> R + Send + Sync + 'static,
    {
        self.register(function.name(), parameters, summary, move |input| body(input).into_result())
    }

    /// Has `initializer` called once in each worker, before it is ready; several in the order in which they
    /// were added. If one fails or panics, the worker is not ready, and what it said is its pool's failure.
    ///
    /// It is the place for what functions share: let it fill a [`std::sync::OnceLock`].
    #[must_use]
    pub fn initializer<E: Display>(
        mut self,
        initializer: impl FnOnce() -> Result<(), E> + Send + Sync + 'static,
    ) -> Self {
        self.initializers.push(Box::new(|| initializer().map_err(|error| returned(&error))));
        self
    }

    /// Adds `function` under `name`, with a name for each of its parameters and a sentence on what it does.
    ///
    /// Its input type says how many arguments it takes: a tuple of n takes n, a `Vec` any number, `()` none,
    /// every other type one; those for `Option`s at the end may be left out. Plain bytes
    /// ([`Encoding::Bytes`](crate::task::Encoding::Bytes)) are one argument of type [`bytes::Bytes`], and not copied,
    /// however many they are. Arguments from a command line are read as JSON of the type they are for, else as a
    /// string. A result of type [`bytes::Bytes`] reaches the caller as it is, others as JSON (or as
    /// `bincode`, if the arguments came so). An error's text reaches the caller, and so does a panic's.
    #[must_use]
    pub fn register<In, Out, E, F>(self, name: &str, parameters: &[&str], summary: &str, function: F) -> Self
    where
        In: DeserializeOwned + 'static,
        Out: Serialize + 'static,
        E: Display,
        F: Fn(In) -> Result<Out, E> + Send + Sync + 'static,
    {
        self.insert(Entry::typed(name, parameters, summary, Offered::Always, function))
    }

    /// Adds `function` under `name` as it is: it reads the bytes of its arguments and writes those of its
    /// result itself, in whatever encoding. `signature` is what listings show.
    #[must_use]
    pub fn register_raw<E, F>(self, name: &str, signature: &str, summary: &str, function: F) -> Self
    where
        E: Display,
        F: Fn(Payload) -> Result<Payload, E> + Send + Sync + 'static,
    {
        self.insert(Entry::raw(name, signature, summary, function))
    }

    /// Like [`register`](Self::register), for a function that harms its worker.
    #[must_use]
    pub(super) fn register_fault<In, Out, E, F>(
        self,
        name: &str,
        parameters: &[&str],
        summary: &str,
        function: F,
    ) -> Self
    where
        In: DeserializeOwned + 'static,
        Out: Serialize + 'static,
        E: Display,
        F: Fn(In) -> Result<Out, E> + Send + Sync + 'static,
    {
        self.insert(Entry::typed(name, parameters, summary, Offered::ForFaults, function))
    }

    /// The functions, ready to be called; those that show faults only with `allow_fault_injection`.
    ///
    /// # Errors
    /// The first mistake that was made in registering.
    pub fn finish(mut self, allow_fault_injection: bool) -> Result<Functions, RegisterError> {
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        if self.functions.len() > FUNCTIONS_PER_WORKER_MAX {
            return Err(RegisterError::TooMany(self.functions.len()));
        }
        self.functions.retain(|_, function| function.offered == Offered::Always || allow_fault_injection);
        Ok(Functions { functions: self.functions, initializers: self.initializers })
    }

    /// Adds functions that run a command, and `run`, which runs any, where a guard sees to it that nothing is
    /// left of them. A configured one takes the place of a function of the same name; a function of the program
    /// that is named `run` stays.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub(super) fn with_commands(mut self, commands: Vec<CommandSpec>) -> Result<Self, String> {
        for spec in commands {
            let function = Entry::command(CommandFunction::new(spec)?);
            self.functions.insert(function.info.name.clone(), function);
        }
        let has_own = self.functions.keys().any(|name| name.as_str() == RUN_FUNCTION);
        if process::has_guard() && !has_own {
            self = self.insert(Entry::run());
        }
        Ok(self)
    }

    fn insert(mut self, function: Result<Entry, RegisterError>) -> Self {
        let added = function.and_then(|function| {
            let name = function.info.name.clone();
            match self.functions.insert(name.clone(), function) {
                None => Ok(()),
                Some(_) => Err(RegisterError::Duplicate(name)),
            }
        });
        self.mistake = self.mistake.or(added.err());
        self
    }
}

impl Entry {
    fn typed<In, Out, E, F>(
        name: &str,
        parameters: &[&str],
        summary: &str,
        offered: Offered,
        function: F,
    ) -> Result<Self, RegisterError>
    where
        In: DeserializeOwned + 'static,
        Out: Serialize + 'static,
        E: Display,
        F: Fn(In) -> Result<Out, E> + Send + Sync + 'static,
    {
        let name = FunctionName::new(name)?;
        let signature = Signature::new::<In, Out>(name.clone(), parameters)?;
        let info = FunctionInfo { name, signature: signature.to_string(), summary: summary.to_owned() };
        let body = move |payload: Payload| {
            let input = arguments::decode(signature.arity, &payload)
                .map_err(|mismatch| signature.refuse(mismatch))?;
            let output = function(input).map_err(|error| returned(&error))?;
            result::encode(&output, &payload)
        };
        Ok(Entry { info, offered, body: Box::new(body) })
    }

    fn raw<E, F>(name: &str, signature: &str, summary: &str, function: F) -> Result<Self, RegisterError>
    where
        E: Display,
        F: Fn(Payload) -> Result<Payload, E> + Send + Sync + 'static,
    {
        let name = FunctionName::new(name)?;
        let info = FunctionInfo { name, signature: signature.to_owned(), summary: summary.to_owned() };
        let body = move |payload| function(payload).map_err(|error| returned(&error));
        Ok(Entry { info, offered: Offered::Always, body: Box::new(body) })
    }

    fn run() -> Result<Self, RegisterError> {
        let name = FunctionName::new(RUN_FUNCTION)?;
        let info =
            FunctionInfo { name, signature: run::SIGNATURE.to_owned(), summary: run::SUMMARY.to_owned() };
        Ok(Entry { info, offered: Offered::Always, body: Box::new(run::run) })
    }

    fn command(command: CommandFunction) -> Self {
        let info = command.info();
        Entry { info, offered: Offered::Always, body: Box::new(move |payload| command.call(payload)) }
    }
}

/// What a function may return that has results of type `Out`: one, or a `Result` of one.
pub trait Returns<Out> {
    /// The result, or what the caller is told.
    ///
    /// # Errors
    /// The function's own, as text.
    fn into_result(self) -> Result<Out, String>;
}

impl<Out> Returns<Out> for Out {
    fn into_result(self) -> Result<Out, String> {
        Ok(self)
    }
}

impl<Out, E: Display> Returns<Out> for Result<Out, E> {
    fn into_result(self) -> Result<Out, String> {
        self.map_err(|error| error.to_string())
    }
}

/// The functions of a worker.
#[derive(Default)]
pub struct Functions {
    functions: BTreeMap<FunctionName, Entry>,
    initializers: Vec<Initializer>,
}

impl Functions {
    /// What there is to say of each, by name.
    pub fn infos(&self) -> Vec<FunctionInfo> {
        self.functions.values().map(|function| function.info.clone()).collect()
    }

    /// Does what is to be done once, before the first call.
    ///
    /// # Errors
    /// What the first initializer that failed said. The others were not called.
    pub fn initialize(&mut self) -> Result<(), Failure> {
        self.initializers.drain(..).try_for_each(catching_panics)
    }

    /// Calls the function `name`. A panic in it is caught and reported.
    pub fn call(&self, name: &FunctionName, args: Payload) -> Report {
        self.find(name).call(args)
    }

    /// What is called by `name`.
    pub(super) fn find<'a>(&'a self, name: &'a FunctionName) -> Callee<'a> {
        Callee { name, function: self.functions.get(name) }
    }
}

/// What is called by a name: a function, if there is one.
pub(super) struct Callee<'a> {
    name: &'a FunctionName,
    function: Option<&'a Entry>,
}

impl Callee<'_> {
    /// Calls it. A panic in it is caught and reported.
    pub(super) fn call(&self, args: Payload) -> Report {
        let Some(function) = self.function else {
            let message = format!("this worker has no function `{}`", self.name);
            return Report::Failed(failure(FailureKind::Error, message));
        };
        match catching_panics(|| (function.body)(args)) {
            Ok(result) => Report::Ok(result),
            Err(failure) => Report::Failed(Failure { message: cut_message(failure.message), ..failure }),
        }
    }
}

/// The failure of a function that returned `error`.
fn returned(error: &dyn Display) -> Failure {
    failure(FailureKind::Error, error.to_string())
}

fn failure(kind: FailureKind, message: String) -> Failure {
    Failure { kind, message, location: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MESSAGE_BYTES_MAX;
    use crate::task::Encoding;
    use std::convert::Infallible;

    fn identity<T>(value: T) -> Result<T, Infallible> {
        Ok(value)
    }

    fn call(registry: Registry, name: &str, args: &[&str]) -> Report {
        registry.finish(false).unwrap().call(&name.parse().unwrap(), Payload::from_args(args))
    }

    fn failed(report: Report) -> Failure {
        match report {
            Report::Failed(failure) => failure,
            Report::Ok(result) => panic!("a result: {result:?}"),
        }
    }

    fn mistake(registry: Registry) -> RegisterError {
        registry.finish(false).err().unwrap()
    }

    #[test]
    fn duplicate_name_is_a_mistake() {
        let registry = Registry::new().register("f", &["A"], "", identity::<u8>).register(
            "f",
            &["B"],
            "",
            identity::<u16>,
        );
        assert_eq!(mistake(registry), RegisterError::Duplicate("f".parse().unwrap()));
    }

    #[test]
    fn function_may_return_its_result_or_an_error() {
        const HALF: Function<u32, u32> = Function::new("half");
        const THIRD: Function<u32, u32> = Function::new("third");
        let registry = || {
            Registry::new().add(HALF, &["N"], "", |n| n / 2).add(THIRD, &["N"], "", |n| match n % 3 {
                0 => Ok(n / 3),
                _ => Err("not a multiple of three"),
            })
        };
        let json = |json: &'static str| Report::Ok(Payload::new(Encoding::Json, json));
        assert_eq!(call(registry(), "half", &["9"]), json("4"));
        assert_eq!(call(registry(), "third", &["9"]), json("3"));
        assert_eq!(failed(call(registry(), "third", &["8"])).message, "not a multiple of three");
    }

    #[test]
    fn initializers_are_called_in_order_until_one_fails() {
        let (sender, called) = std::sync::mpsc::channel();
        let note = |number: u8, result: Result<(), &'static str>| {
            let sender = sender.clone();
            move || sender.send(number).map_err(|_| "nobody listens").and(result)
        };
        let registry = Registry::new()
            .initializer(note(1, Ok(())))
            .initializer(note(2, Err("no model")))
            .initializer(note(3, Ok(())));
        let failure = registry.finish(false).unwrap().initialize().unwrap_err();
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Error, "no model"));
        assert_eq!(called.try_iter().collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn panic_in_an_initializer_is_a_failure() {
        let registry = Registry::new().initializer(|| -> Result<(), Infallible> { panic!("no model") });
        let failure = registry.finish(false).unwrap().initialize().unwrap_err();
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Panic, "no model"));
    }

    #[test]
    fn first_mistake_is_told() {
        let registry = Registry::new().register("not a name", &["A"], "", identity::<u8>).register(
            "f",
            &[],
            "",
            identity::<u8>,
        );
        assert!(matches!(mistake(registry), RegisterError::Name(_)));
    }

    #[test]
    fn too_many_functions_are_a_mistake() {
        let names = 0..=FUNCTIONS_PER_WORKER_MAX;
        let registry = names.fold(Registry::new(), |registry, number| {
            registry.register(&format!("f{number}"), &["A"], "", identity::<u8>)
        });
        assert_eq!(mistake(registry), RegisterError::TooMany(FUNCTIONS_PER_WORKER_MAX + 1));
    }

    #[test]
    fn fault_is_offered_only_where_allowed() {
        let registry = || Registry::new().register_fault("f", &["A"], "", identity::<u8>);
        assert_eq!(registry().finish(false).unwrap().infos().len(), 0);
        assert_eq!(registry().finish(true).unwrap().infos().len(), 1);
    }

    #[test]
    fn returned_error_is_a_failure_in_its_words() {
        let registry = Registry::new().register("f", &[], "", |()| Err::<(), _>("its words"));
        let failure = failed(call(registry, "f", &[]));
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Error, "its words"));
    }

    #[test]
    fn wrong_argument_is_refused_with_what_is_taken() {
        let registry = Registry::new().register("f", &["N"], "", identity::<u128>);
        let failure = failed(call(registry, "f", &["banana"]));
        assert_eq!(failure.kind, FailureKind::BadArguments);
        assert_eq!(failure.message, "f takes N: u128; \"banana\" is not one (invalid digit found in string)");
    }

    #[test]
    fn panic_while_reading_arguments_is_caught() {
        #[derive(serde::Deserialize)]
        #[serde(from = "u8")]
        struct Trap;
        impl From<u8> for Trap {
            fn from(_: u8) -> Self {
                panic!("trapped")
            }
        }
        let registry = Registry::new().register("f", &["N"], "", |Trap| Ok::<_, Infallible>(()));
        assert_eq!(failed(call(registry, "f", &["1"])).kind, FailureKind::Panic);
    }

    #[test]
    fn unknown_function_is_a_failure() {
        let failure = failed(call(Registry::new(), "nowhere", &[]));
        assert_eq!(failure.message, "this worker has no function `nowhere`");
    }

    #[test]
    fn long_message_is_cut() {
        let message = "x".repeat(MESSAGE_BYTES_MAX + 1);
        let registry = Registry::new().register("f", &[], "", move |()| Err::<(), _>(message.clone()));
        assert_eq!(failed(call(registry, "f", &[])).message.len(), MESSAGE_BYTES_MAX);
    }
}
