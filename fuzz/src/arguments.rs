//! Arguments for functions of many types: each call has a result or is refused in one line.
//!
//! Input: which function; how the arguments are encoded; the arguments.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::LazyLock;

use bytes::Bytes;
use poold::id::FunctionName;
use poold::message::worker::Report;
use poold::task::{Encoding, FailureKind, Payload};
use poold::worker::{Functions, Registry};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::draw::Draw;
use super::names::is_one_line;

#[derive(Serialize, Deserialize)]
struct Point {
    x: i32,
    #[serde(default)]
    y: Option<String>,
}

#[derive(Serialize, Deserialize)]
enum Shape {
    Empty,
    Circle(u8),
    Line { from: Point, to: Point },
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Either {
    Number(u64),
    Text(String),
    Several(Vec<Either>),
}

/// Functions that give back what they are given.
static FUNCTIONS: LazyLock<Functions> = LazyLock::new(|| {
    let registry = Registry::new();
    let registry = echo::<()>(registry, "unit", &[]);
    let registry = echo::<bool>(registry, "bool", &["A"]);
    let registry = echo::<i8>(registry, "i8", &["A"]);
    let registry = echo::<u128>(registry, "u128", &["A"]);
    let registry = echo::<i128>(registry, "i128", &["A"]);
    let registry = echo::<f64>(registry, "f64", &["A"]);
    let registry = echo::<char>(registry, "char", &["A"]);
    let registry = echo::<String>(registry, "string", &["A"]);
    let registry = echo::<Bytes>(registry, "bytes", &["A"]);
    let registry = echo::<Option<u16>>(registry, "option", &["A"]);
    let registry = echo::<Vec<u32>>(registry, "vec", &["A"]);
    let registry = echo::<(u8, String, Option<Vec<u8>>)>(registry, "tuple", &["A", "B", "C"]);
    let registry = echo::<BTreeMap<String, Vec<i64>>>(registry, "map", &["A"]);
    let registry = echo::<Point>(registry, "point", &["A"]);
    let registry = echo::<Shape>(registry, "shape", &["A"]);
    let registry = echo::<Either>(registry, "either", &["A"]);
    let registry = echo::<serde_json::Value>(registry, "any", &["A"]);
    registry.finish(false).expect("each function has a name of its own")
});

fn echo<T: Serialize + DeserializeOwned + 'static>(
    registry: Registry,
    name: &str,
    parameters: &[&str],
) -> Registry {
    registry.register(name, parameters, "", Ok::<T, Infallible>)
}

/// Arguments for one of the functions.
pub fn arguments(input: &[u8]) {
    let mut draw = Draw::new(input);
    let names: Vec<FunctionName> = FUNCTIONS.infos().into_iter().map(|info| info.name).collect();
    let name = draw.any(names).expect("there are functions");
    let encoding =
        draw.pick(&[Encoding::Args, Encoding::Json, Encoding::Bincode, Encoding::Bytes, Encoding::Pickle]);
    let bytes = Bytes::copy_from_slice(draw.bytes(usize::MAX));
    match FUNCTIONS.call(&name, Payload::new(encoding, bytes)) {
        Report::Ok(_) => {}
        Report::Failed(failure) => {
            assert_ne!(failure.kind, FailureKind::Panic, "{failure:?}");
            is_one_line(&failure.message);
        }
    }
}
