//! `load_url`: the body that a server answers with. For pools of threads: it waits more than it works.
//!
//! Whoever may call it can have loaded what this machine can reach. Proxies are taken from the environment
//! (`HTTPS_PROXY`, `NO_PROXY`, …) of the pool; certificates are checked against Mozilla's roots.

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use ureq::Agent;
use ureq::http::{StatusCode, Uri};

use super::{Registry, Seconds};
use crate::limits::OUTPUT_BYTES_MAX;

/// How long it may take if the caller does not say.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What the functions of a process load with: they share its connections.
static AGENT: LazyLock<Agent> = LazyLock::new(|| {
    let config = Agent::config_builder().http_status_as_error(false);
    config.user_agent(concat!("poold/", env!("CARGO_PKG_VERSION"))).build().into()
});

/// Adds the function.
pub(super) fn register(registry: Registry) -> Registry {
    registry.register(
        "load_url",
        &["URL", "TIMEOUT"],
        "What the server at URL (http or https) answers with, as bytes; within TIMEOUT seconds, 60 by default.",
        |(url, timeout): (Url, Option<Seconds>)| {
            let loaded = load(&url, timeout.map_or(TIMEOUT, |timeout| timeout.0));
            loaded.map_err(|cause| format!("cannot load {}: {cause}", url.0))
        },
    )
}

fn load(url: &Url, timeout: Duration) -> Result<Bytes, Cause> {
    let request = AGENT.get(&url.0).config().timeout_global(Some(timeout)).build();
    let failed = |error| match error {
        // One more than may be returned: so much is read before it is too large.
        ureq::Error::BodyExceedsLimit(_) => Cause::TooLarge,
        ureq::Error::Timeout(_) => Cause::TimedOut(timeout),
        error => Cause::Failed(error),
    };
    let mut response = request.call().map_err(failed)?;
    match response.status() {
        status if status.is_success() => {
            let body = response.body_mut().with_config().limit(OUTPUT_BYTES_MAX as u64 + 1);
            body.read_to_vec().map(Bytes::from).map_err(failed)
        }
        status => Err(Cause::Status(status)),
    }
}

/// An address that can be loaded.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Url(Uri);

impl TryFrom<String> for Url {
    type Error = NoUrl;

    fn try_from(text: String) -> Result<Self, NoUrl> {
        let url: Uri = text.parse().map_err(|_| NoUrl)?;
        let is_complete = matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some();
        if is_complete { Ok(Url(url)) } else { Err(NoUrl) }
    }
}

/// A text that is no address.
struct NoUrl;

impl fmt::Display for NoUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("it is not a URL: give one such as https://example.org/")
    }
}

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("the server answered {0}")]
    Status(StatusCode),
    #[error("it took longer than {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
    #[error("the body is larger than {OUTPUT_BYTES_MAX} bytes, the most that a result can have")]
    TooLarge,
    #[error("{0}")]
    Failed(ureq::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::worker::Report;
    use crate::task::{Encoding, Failure, FailureKind, Payload};
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::thread;

    /// Gives `responses` one after the other, a connection each, and returns the address of the server.
    fn serve(responses: Vec<Vec<u8>>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for response in responses {
                let (mut stream, _) = listener.accept().unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                lines.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
                // Whoever has read enough does not read the rest.
                let _ = stream.write_all(&response);
            }
        });
        format!("http://{address}")
    }

    fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n");
        [head.as_bytes(), body].concat()
    }

    fn load_url(args: &[&str]) -> Result<Bytes, Failure> {
        let functions = Registry::built_in().finish(false).unwrap();
        match functions.call(&"load_url".parse().unwrap(), Payload::from_args(args)) {
            Report::Ok(result) => {
                assert_eq!(result.encoding, Encoding::Bytes);
                Ok(result.bytes().unwrap())
            }
            Report::Failed(failure) => Err(failure),
        }
    }

    fn reason(args: &[&str]) -> String {
        let failure = load_url(args).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Error);
        failure.message
    }

    #[test]
    fn body_is_returned_as_it_is() {
        let url = serve(vec![response("200 OK", "", b"\xff\n\0")]);
        assert_eq!(load_url(&[&url]), Ok(Bytes::from_static(b"\xff\n\0")));
    }

    #[test]
    fn redirect_is_followed() {
        let url =
            serve(vec![response("302 Found", "Location: /there\r\n", b""), response("200 OK", "", b"here")]);
        assert_eq!(load_url(&[&url, "5"]), Ok(Bytes::from_static(b"here")));
    }

    #[test]
    fn answer_that_is_no_success_fails_with_its_status() {
        for status in ["404 Not Found", "500 Internal Server Error", "304 Not Modified"] {
            let url = serve(vec![response(status, "", b"")]);
            assert_eq!(reason(&[&url]), format!("cannot load {url}/: the server answered {status}"));
        }
    }

    #[test]
    fn body_at_the_cap_is_returned_and_a_larger_one_fails_with_the_cap() {
        let url = serve(vec![response("200 OK", "", &vec![b'x'; OUTPUT_BYTES_MAX])]);
        assert_eq!(load_url(&[&url]).unwrap().len(), OUTPUT_BYTES_MAX);

        let url = serve(vec![response("200 OK", "", &vec![b'x'; OUTPUT_BYTES_MAX + 1])]);
        assert_eq!(
            reason(&[&url]),
            format!(
                "cannot load {url}/: the body is larger than {OUTPUT_BYTES_MAX} bytes, the most that a result can have"
            )
        );
    }

    #[test]
    fn server_that_does_not_answer_fails_after_the_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        assert_eq!(reason(&[&url, "0.1"]), format!("cannot load {url}/: it took longer than 100ms"));
        assert_eq!(reason(&[&url, "0"]), format!("cannot load {url}/: it took longer than 0s"));
    }

    #[test]
    fn host_that_is_not_there_fails_with_its_name() {
        let message = reason(&["http://some-made-up-domain.invalid/"]);
        assert!(message.starts_with("cannot load http://some-made-up-domain.invalid/: "), "{message}");
        assert_eq!(message.lines().count(), 1);
    }

    #[test]
    fn server_without_tls_fails_for_https() {
        let url = serve(vec![b"no TLS at all".to_vec()]).replace("http:", "https:");
        let message = reason(&[&url]);
        assert!(message.starts_with(&format!("cannot load {url}/: ")), "{message}");
        assert!(!message.contains("took longer"), "{message}");
    }

    #[test]
    fn text_that_is_no_url_is_refused() {
        for text in ["banana", "ftp://example.org/", "http://", "/etc/passwd", "http://a b/", "http://a/\n"] {
            let failure = load_url(&[text]).unwrap_err();
            assert_eq!(failure.kind, FailureKind::BadArguments, "{text}");
            assert!(failure.message.contains("it is not a URL"), "{}", failure.message);
            assert_eq!(failure.message.lines().count(), 1);
        }
    }
}
