//! The functions that every `poold` has.

mod faults;
#[cfg(feature = "http")]
mod http;
mod primes;

use std::convert::Infallible;
use std::fmt;
use std::thread;
use std::time::Duration;

use serde::Deserialize;

use super::Registry;
use super::arguments;
use crate::task::{Encoding, Payload};

impl Registry {
    /// The functions that `poold` itself has, to add others to.
    pub fn built_in() -> Self {
        let registry = Registry::new()
            .register("is_prime", &["N"], "Whether N is a prime number.", |n| {
                Ok::<_, Infallible>(primes::is_prime(n))
            })
            .register(
                "is_prime_trial",
                &["N"],
                "Whether N is a prime number, by trial division: a measure of raw computing.",
                |n| Ok::<_, Infallible>(primes::is_prime_by_trial(n)),
            )
            .register("sleep", &["TIME"], "Sleeps for TIME in seconds.", |time: Seconds| {
                thread::sleep(time.0);
                Ok::<_, Infallible>(())
            })
            .register("fail", &["MESSAGE"], "Fails with MESSAGE.", |message: String| Err::<(), _>(message))
            .register_raw(
                "echo",
                "echo(TEXT...) -> String",
                "Returns its arguments, a space between them.",
                echo,
            );
        #[cfg(feature = "http")]
        let registry = http::register(registry);
        faults::register(registry)
    }
}

/// Text arguments as one string, a space between them; arguments in any other encoding as they are.
fn echo(args: Payload) -> Result<Payload, String> {
    match args.encoding {
        Encoding::Args => {
            let bytes = args.as_slice().map_err(|error| format!("its arguments cannot be read: {error}"))?;
            let texts = arguments::split(bytes).map_err(|mismatch| mismatch.to_string())?;
            let joined = texts.join(&b' ');
            Ok(match String::from_utf8(joined) {
                Ok(text) => Payload::new(Encoding::Json, serde_json::Value::from(text).to_string()),
                Err(error) => Payload::new(Encoding::Bytes, error.into_bytes()),
            })
        }
        Encoding::Json | Encoding::Bincode | Encoding::Bytes | Encoding::Pickle => Ok(args),
    }
}

/// A time, as a number of seconds.
#[derive(Deserialize)]
#[serde(try_from = "f64")]
struct Seconds(Duration);

impl TryFrom<f64> for Seconds {
    type Error = NoTime;

    fn try_from(seconds: f64) -> Result<Self, NoTime> {
        Duration::try_from_secs_f64(seconds).map(Seconds).map_err(|_| NoTime)
    }
}

/// A number of seconds that is negative, not a number, or beyond what a clock can count.
struct NoTime;

impl fmt::Display for NoTime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("it is not a time: give a number of seconds from 0 on")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::worker::Report;
    use crate::task::{Failure, FailureKind};

    fn call(name: &str, args: Payload) -> Report {
        Registry::built_in().finish(true).unwrap().call(&name.parse().unwrap(), args)
    }

    fn json(json: &'static str) -> Report {
        Report::Ok(Payload::new(Encoding::Json, json))
    }

    fn refused(name: &str, args: &[&str]) -> String {
        match call(name, Payload::from_args(args)) {
            Report::Failed(Failure { kind: FailureKind::BadArguments, message, location: None }) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn signatures_are_for_reading() {
        let infos = Registry::built_in().finish(true).unwrap().infos();
        let signatures: Vec<&str> = infos.iter().map(|info| info.signature.as_str()).collect();
        assert_eq!(
            signatures,
            [
                "crash(HOW: Crash)",
                "echo(TEXT...) -> String",
                "fail(MESSAGE: String)",
                "fill(BYTES: u64) -> u64",
                "fork_bomb(PROCESSES: u32) -> usize",
                "hog(BYTES: usize) -> usize",
                "is_prime(N: u128) -> bool",
                "is_prime_trial(N: u64) -> bool",
                #[cfg(feature = "http")]
                "load_url(URL: Url, TIMEOUT: Option<Seconds>) -> Bytes",
                "sleep(TIME: Seconds)",
                "spin()",
                "stray() -> u32",
            ]
        );
    }

    #[test]
    fn echo_joins_texts() {
        assert_eq!(call("echo", Payload::from_args(["a", "", "\"b\" 1.10"])), json(r#""a  \"b\" 1.10""#));
        assert_eq!(call("echo", Payload::from_args::<&str>([])), json(r#""""#));
    }

    #[test]
    fn echo_returns_what_is_no_text_as_bytes() {
        let bytes = Payload::new(Encoding::Bytes, b"\xff x");
        assert_eq!(call("echo", Payload::from_args([&b"\xff"[..], b"x"])), Report::Ok(bytes));
    }

    #[test]
    fn echo_returns_other_encodings_as_they_are() {
        for encoding in [Encoding::Json, Encoding::Bincode, Encoding::Bytes, Encoding::Pickle] {
            let payload = Payload::new(encoding, b"[1, \xff");
            assert_eq!(call("echo", payload.clone()), Report::Ok(payload));
        }
    }

    #[test]
    fn sleep_of_nothing_returns() {
        assert_eq!(call("sleep", Payload::from_args(["0"])), json("null"));
    }

    #[test]
    fn sleep_refuses_what_is_no_time() {
        for time in ["-1", "NaN", "inf", "1e300"] {
            let message = refused("sleep", &[time]);
            assert!(message.contains(time) && message.contains("not a time"), "{message}");
        }
    }

    #[test]
    fn fail_fails_with_its_message() {
        let failure = Failure { kind: FailureKind::Error, message: "1.10".to_owned(), location: None };
        assert_eq!(call("fail", Payload::from_args(["1.10"])), Report::Failed(failure));
    }

    #[test]
    fn is_prime_keeps_every_digit() {
        let mersenne = "170141183460469231731687303715884105727";
        assert_eq!(call("is_prime", Payload::from_args([mersenne])), json("true"));
        assert_eq!(call("is_prime_trial", Payload::from_args(["1099726899285419"])), json("false"));
    }

    #[test]
    fn is_prime_refuses_what_it_does_not_take() {
        assert_eq!(
            refused("is_prime", &["banana"]),
            "is_prime takes N: u128; \"banana\" is not one (invalid digit found in string)"
        );
        assert_eq!(refused("is_prime", &[]), "is_prime takes 1 argument (N: u128), got 0");
        assert_eq!(refused("is_prime", &["2", "3"]), "is_prime takes 1 argument (N: u128), got 2");
    }

    #[test]
    fn crash_refuses_what_is_no_way_to_crash() {
        for how in ["256", "-1", "gently"] {
            assert!(refused("crash", &[how]).contains("abort, segfault or an exit status"));
        }
    }
}
