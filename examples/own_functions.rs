//! A program that runs its own functions in processes of its own: no daemon is needed, and nothing of it
//! outlives the program.
//!
//! The same executable is the program, its private supervisor and each of its workers; `poold::init` tells
//! them apart.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::OnceLock;

use poold::worker::Registry;
use poold::{Executor, Function, PoolOptions};

/// Declared once: whoever registers another body, or calls with other arguments, does not compile.
const AREA: Function<(f64, f64), f64> = Function::new("area");
const DIVIDE: Function<(u64, u64), u64> = Function::new("divide");
const CAPITAL: Function<String, String> = Function::new("capital");

/// What is costly to make is made once per worker.
static CAPITALS: OnceLock<BTreeMap<&str, &str>> = OnceLock::new();

fn load_capitals() -> Result<(), String> {
    CAPITALS
        .set(BTreeMap::from([("France", "Paris"), ("Japan", "Tokyo")]))
        .map_err(|_| "loaded twice".to_owned())
}

fn capital(country: String) -> Result<String, String> {
    let capital = CAPITALS.get().and_then(|capitals| capitals.get(country.as_str()));
    capital.map(|name| (*name).to_owned()).ok_or_else(|| format!("{country} is not in the list"))
}

fn functions() -> Registry {
    Registry::new()
        .initializer(load_capitals)
        .add(AREA, &["WIDTH", "HEIGHT"], "The area of a rectangle.", |(width, height)| width * height)
        .add(DIVIDE, &["DIVIDEND", "DIVISOR"], "The whole part of a quotient.", |(dividend, divisor)| {
            dividend.checked_div(divisor).ok_or("there is no quotient by zero")
        })
        .add(CAPITAL, &["COUNTRY"], "The capital of a country.", capital)
}

fn main() -> Result<(), Box<dyn Error>> {
    poold::init(functions);

    let executor = Executor::private([PoolOptions::new("cpu").workers(2)])?;
    println!("area: {}", executor.call(AREA, (3.0, 4.0))?.result(None)?);
    println!("capital: {}", executor.call(CAPITAL, "Japan".to_owned())?.result(None)?);

    let quotients = [(85, 2), (1, 0)].map(|input| executor.call(DIVIDE, input));
    for future in quotients {
        match future?.result(None) {
            Ok(quotient) => println!("quotient: {quotient}"),
            Err(error) => println!("no quotient: {}", error.message().unwrap_or_default()),
        }
    }
    Ok(())
}
