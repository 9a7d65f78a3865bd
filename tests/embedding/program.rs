//! A program with functions of its own, for `tests/embedding.rs`: it runs the scenario that its argument
//! names, and panics where something is not as it should be.

#![allow(clippy::unwrap_used, reason = "a scenario fails by panicking")]

use std::io::Write;
use std::os::unix::process::parent_id;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use poold::client::{CallErrorKind, Connection, Error};
use poold::daemon::config::{Config, Source};
use poold::daemon::{Audience, RunOptions};
use poold::message::client::{Refusal, RequestBody};
use poold::worker::Registry;
use poold::{Executor, Function, PoolOptions};

const AREA: Function<(f64, f64), f64> = Function::new("area");
const AREAS: Function<(f64, f64), f64> = Function::new("areas");
/// The process of the worker, and of its supervisor.
const PROCESSES: Function<(), (u32, u32)> = Function::new("processes");
/// What the initializer has left, and how often it was called.
const STATE: Function<(), String> = Function::new("state");
const PANIC: Function<String, ()> = Function::new("panic");
/// Calls itself, so many times.
const RECURSE: Function<u32, u32> = Function::new("recurse");
/// In pool `cpu`: calls `pong`.
const PING: Function<(), u32> = Function::new("ping");
/// In pool `io`: calls `ping`.
const PONG: Function<(), u32> = Function::new("pong");
/// In pool `cpu`: the sum of areas that pool `io` computes.
const SUM_OF_AREAS: Function<Vec<(f64, f64)>, f64> = Function::new("sum_of_areas");
/// In pool `io`: the same, by two executors at once.
const AREAS_BY_TWO: Function<(), (f64, f64)> = Function::new("areas_by_two");
/// In pool `io`: two areas, by pool `cpu`.
const AREAS_BY_CPU: Function<(f64, f64), f64> = Function::new("areas_by_cpu");
/// What a function is told when it asks for what only clients may.
const DRAIN: Function<(), String> = Function::new("drain");
/// What a thread that a function has started is told when it connects.
const BESIDE: Function<(), String> = Function::new("beside");

static MODEL: OnceLock<String> = OnceLock::new();

/// Fills what functions share; fails where the pool's environment says so.
fn load_model() -> Result<(), String> {
    match std::env::var("MODEL") {
        Ok(model) if model == "broken" => Err("the model is broken".to_owned()),
        Ok(model) => MODEL.set(model).map_err(|_| "called twice".to_owned()),
        Err(_) => Ok(()),
    }
}

fn functions() -> Registry {
    Registry::new()
        .initializer(load_model)
        .add(AREA, &["WIDTH", "HEIGHT"], "The area of a rectangle.", |(width, height)| width * height)
        .add(PROCESSES, &[], "Which processes run it.", |()| (std::process::id(), parent_id()))
        .add(STATE, &[], "What the initializer has left.", |()| MODEL.get().cloned().ok_or("nothing"))
        .add(PANIC, &["MESSAGE"], "Panics.", |message: String| -> () { panic!("{message}") })
        .add(RECURSE, &["DEPTH"], "Calls itself.", |depth| match depth {
            0 => Ok(0),
            _ => ask(RECURSE, depth - 1).map(|below| below + 1),
        })
        .add(PING, &[], "Calls pong.", |()| ask(PONG, ()))
        .add(PONG, &[], "Calls ping.", |()| ask(PING, ()))
        .add(SUM_OF_AREAS, &["SIDES"], "The sum of areas.", sum_of_areas)
        .add(AREAS_BY_TWO, &[], "Two areas.", |()| areas_by_two())
        .add(AREAS_BY_CPU, &["WIDTH", "HEIGHT"], "Twice an area.", |sides| {
            Ok::<f64, String>(ask(AREA, sides)? + ask(AREA, sides)?)
        })
        .add(DRAIN, &[], "Asks to drain.", |()| {
            let refused = Connection::open(None).unwrap().call(RequestBody::Drain);
            refused.map_or_else(|error| error.to_string(), |reply| format!("{reply:?}"))
        })
        .add(BESIDE, &[], "Connects beside the function.", |()| {
            std::thread::spawn(|| Executor::connect().err().unwrap().to_string()).join().unwrap()
        })
}

/// Calls a function from within a function, and waits for it.
fn ask<In: serde::Serialize, Out: serde::de::DeserializeOwned + 'static>(
    function: Function<In, Out>,
    input: In,
) -> Result<Out, String> {
    let executor = Executor::connect().map_err(|error| error.to_string())?;
    let future = executor.call(function, input).map_err(|error| error.to_string())?;
    future.result(None).map_err(|error| error.to_string())
}

fn sum_of_areas(sides: Vec<(f64, f64)>) -> Result<f64, String> {
    let executor = Executor::connect().map_err(|error| error.to_string())?;
    let executor = executor.with_pool("io").map_err(|error| error.to_string())?;
    let futures: Vec<_> = sides.into_iter().map(|sides| executor.call(AREA, sides)).collect();
    let areas = futures.into_iter().map(|future| future.and_then(|future| future.result(None)));
    areas.sum::<Result<f64, _>>().map_err(|error| error.to_string())
}

fn areas_by_two() -> Result<(f64, f64), String> {
    let executor = || {
        Executor::connect()
            .map_err(|error| error.to_string())?
            .with_pool("io")
            .map_err(|error| error.to_string())
    };
    let (first, second) = (executor()?, executor()?);
    let first = first.call(AREA, (1.0, 2.0)).map_err(|error| error.to_string())?;
    let second = second.call(AREA, (3.0, 4.0)).map_err(|error| error.to_string())?;
    let result = |future: poold::Future<f64>| future.result(None).map_err(|error| error.to_string());
    Ok((result(first)?, result(second)?))
}

fn cpu() -> PoolOptions {
    PoolOptions::new("cpu").workers(1)
}

fn main() {
    poold::init(functions);
    let scenario = std::env::args().nth(1).unwrap();
    match scenario.as_str() {
        "daemon" => daemon(),
        "hold" => hold(),
        "two" => two(),
        "state" => state(),
        "broken_initializer" => broken_initializer(),
        "unknown_name" => unknown_name(),
        "wrong_types" => wrong_types(),
        "panic" => panic(),
        "recursion" => recursion(),
        "chain" => chain(),
        "administration" => administration(),
        "threads" => threads(),
        other => panic!("there is no scenario {other}"),
    }
}

/// A daemon by the configuration that is here, which has started a process before it serves.
fn daemon() {
    let template = poold::fork_template(functions);
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    let source = Source { file: Some("poold.toml".into()), socket: Some("poold.sock".into()), workers: None };
    let reload = Box::new(|_: &Config| Err("it stays as it is".to_owned()));
    let options =
        RunOptions { config: source.read().unwrap(), reload, audience: Audience::Everyone, template };
    poold::daemon::run(options).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Tells which processes it has, and goes on until it is killed.
fn hold() {
    let value = |owner| format!("value-of-{owner} ").repeat(1000);
    let another =
        PoolOptions::new("another").workers(1).functions(["state"]).env("ANOTHER", &value("another"));
    let executor = Executor::private([cpu().env("OWN", &value("its-own")), another]).unwrap();
    let executor = executor.with_pool("cpu").unwrap();
    let (worker, supervisor) = executor.call(PROCESSES, ()).unwrap().result(None).unwrap();
    println!("{supervisor} {worker}");
    std::io::stdout().flush().unwrap();
    loop {
        std::thread::park();
    }
}

fn two() {
    let processes = |executor: &Executor| executor.call(PROCESSES, ()).unwrap().result(None).unwrap();
    let first = Executor::private([cpu()]).unwrap();
    let second = Executor::private([cpu()]).unwrap();
    let (of_first, of_second) = (processes(&first), processes(&second));
    assert_ne!(of_first.0, of_second.0);
    assert_ne!(of_first.1, of_second.1);
    drop(first);
    assert_eq!(processes(&second), of_second);
}

fn state() {
    let executor = Executor::private([cpu().env("MODEL", "the model")]).unwrap();
    for _ in 0..2 {
        assert_eq!(executor.call(STATE, ()).unwrap().result(None).unwrap(), "the model");
    }
}

fn broken_initializer() {
    let pool = cpu().env("MODEL", "broken").start_timeout(Duration::from_secs(1));
    let executor = Executor::private([pool]).unwrap();
    let error = executor.call(AREA, (3.0, 4.0)).unwrap().result(None).unwrap_err();
    assert_eq!(error.kind(), CallErrorKind::Refused);
    let text = error.to_string();
    assert!(text.contains("`cpu`") && text.contains("initializer failed: the model is broken"), "{text}");
}

fn unknown_name() {
    let executor = Executor::private([cpu()]).unwrap();
    let error = executor.call(AREAS, (3.0, 4.0)).unwrap().result(None).unwrap_err();
    let Some(Refusal::UnknownFunction { nearest, .. }) = error.refusal() else { panic!("{error}") };
    assert_eq!(nearest.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["area"]);
    assert!(error.to_string().contains("did you mean `area`?"), "{error}");
}

fn wrong_types() {
    const AREA_OF_TEXT: Function<String, f64> = Function::new("area");
    const TEXT_OF_AREA: Function<(f64, f64), String> = Function::new("area");
    let executor = Executor::private([cpu()]).unwrap();
    let kind_of = |text: &str, error: poold::CallError| {
        assert!(error.to_string().contains(text), "{error}");
        error.kind()
    };
    let by_name = executor.submit::<f64>("area", ("wide", 4.0)).unwrap().result(None).unwrap_err();
    assert_eq!(kind_of("WIDTH", by_name), CallErrorKind::BadArguments);
    let by_type = executor.call(AREA_OF_TEXT, "wide".to_owned()).unwrap().result(None).unwrap_err();
    assert_eq!(kind_of("area takes WIDTH: f64, HEIGHT: f64", by_type), CallErrorKind::BadArguments);
    let result = executor.call(TEXT_OF_AREA, (3.0, 4.0)).unwrap().result(None).unwrap_err();
    assert_eq!(kind_of("its result is not of the type asked for", result), CallErrorKind::BadResult);
    let result = executor.submit::<bool>("area", (3.0, 4.0)).unwrap().result(None).unwrap_err();
    assert_eq!(kind_of("its result is not of the type asked for", result), CallErrorKind::BadResult);
}

fn panic() {
    let executor = Executor::private([cpu()]).unwrap();
    let error = executor.call(PANIC, "oh no".to_owned()).unwrap().result(None).unwrap_err();
    assert_eq!((error.kind(), error.message()), (CallErrorKind::Panicked, Some("oh no")));
    assert_eq!(executor.call(AREA, (3.0, 4.0)).unwrap().result(None).unwrap(), 12.0);
}

/// However many workers there are, all could wait for one more.
fn recursion() {
    let executor = Executor::private([cpu().workers(2)]).unwrap();
    assert_eq!(executor.call(RECURSE, 0).unwrap().result(None).unwrap(), 0);
    for _ in 0..2 {
        let error = executor.call(RECURSE, 1).unwrap().result(None).unwrap_err();
        assert_eq!(error.kind(), CallErrorKind::Failed);
        assert!(error.to_string().contains("occupies pool `cpu`"), "{error}");
    }
}

fn chain() {
    let in_cpu = ["ping", "sum_of_areas", "areas_by_two", "area"];
    let cpu = cpu().functions(in_cpu);
    let io = PoolOptions::new("io").workers(2).functions(["pong", "area"]);
    let executor = Executor::private([cpu, io]).unwrap();
    let sides = (1..=100).map(|side| (f64::from(side), 2.0)).collect();
    assert_eq!(executor.call(SUM_OF_AREAS, sides).unwrap().result(None).unwrap(), 10100.0);
    assert_eq!(executor.call(AREAS_BY_TWO, ()).unwrap().result(None).unwrap(), (2.0, 12.0));
    let error = executor.call(PING, ()).unwrap().result(None).unwrap_err();
    assert!(error.to_string().contains("occupies pool `cpu`"), "{error}");
    // The worker that asked goes on as before.
    assert_eq!(executor.call(AREA, (3.0, 4.0)).unwrap().result(None).unwrap(), 12.0);
}

/// Each thread has a conversation of its own, over the one socket of its worker.
fn threads() {
    let io = PoolOptions::new("io").workers(1).threads(8).functions(["areas_by_cpu"]);
    let executor = Executor::private([cpu().functions(["area"]), io]).unwrap();
    let sides: Vec<_> = (1..=200).map(|side| (f64::from(side), 2.0)).collect();
    let futures: Vec<_> = sides.iter().map(|sides| executor.call(AREAS_BY_CPU, *sides).unwrap()).collect();
    for (future, (width, height)) in futures.into_iter().zip(sides) {
        assert_eq!(future.result(None).unwrap(), 2.0 * width * height);
    }
}

fn administration() {
    let executor = Executor::private([cpu()]).unwrap();
    let told = executor.call(DRAIN, ()).unwrap().result(None).unwrap();
    assert!(told.starts_with("not allowed: a function may submit tasks"), "{told}");
    let told = executor.call(BESIDE, ()).unwrap().result(None).unwrap();
    assert_eq!(told, Error::BesideFunctions.to_string());
}
