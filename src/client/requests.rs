//! Requests that were made and not sent: as bytes, or as they are where there is no socket of one's own.
//!
//! ```text
//!   submit a, submit a, submit a, cancel, submit b     are said as     submit a ×3, cancel, submit b
//! ```
//!
//! Filled by those who make requests, given to a [`Sender`](super::connection::Sender) as a whole. Submissions that
//! follow one another and differ in their arguments alone are one request to the daemon; nothing waits for that.

use std::sync::Arc;

use super::template::Template;
use crate::id::RequestId;
use crate::limits;
use crate::message::client::{Request, RequestBody};
use crate::task::{Content, Payload, PayloadsMut};
use crate::wire::{Outbox, WireError};

/// Bytes that a request counts for beside its arguments where it is not encoded.
const REQUEST_BYTES: usize = 128;

/// Submissions that are one request at the most.
const RUN_TASKS_MAX: u32 = limits::TASKS_AT_ONCE_MAX;

/// Bytes of their arguments: what fits into one read of the daemon's beside others.
const RUN_BYTES_MAX: usize = 32 * 1024;

/// Requests in the order in which they are to be sent.
#[derive(Debug)]
pub(super) enum Requests {
    /// For a socket.
    Encoded(Encoded),
    /// For the line of a function, and how many bytes they count for.
    Whole(Vec<Request>, usize),
}

/// Requests as bytes.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    outbox: Outbox,
    /// Submissions behind all else, which further ones may join.
    run: Option<Run>,
    /// The arguments of these.
    args: PayloadsMut,
}

/// Submissions that differ in their arguments alone, with numbers that follow one another.
#[derive(Debug)]
struct Run {
    template: Arc<Template>,
    first: RequestId,
}

impl Requests {
    /// None yet, for a socket.
    pub(super) fn encoded() -> Self {
        Requests::Encoded(Encoded::default())
    }

    /// None yet, for a line.
    pub(super) fn whole() -> Self {
        Requests::Whole(Vec::new(), 0)
    }

    /// None yet, for what these are for.
    pub(super) fn none_of_the_same_kind(&self) -> Self {
        match self {
            Requests::Encoded(_) => Requests::encoded(),
            Requests::Whole(..) => Requests::whole(),
        }
    }

    /// Adds a request.
    ///
    /// # Errors
    /// [`WireError`] when it exceeds a cap; it is not added then.
    pub(super) fn push(&mut self, id: RequestId, body: RequestBody) -> Result<(), WireError> {
        match self {
            Requests::Encoded(encoded) => encoded.outbox()?.push(&Request { id, body })?,
            Requests::Whole(requests, bytes) => {
                *bytes += REQUEST_BYTES;
                requests.push(Request { id, body });
            }
        }
        Ok(())
    }

    /// Adds the request for a call of `template` with `args`.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub(super) fn push_submission(
        &mut self,
        id: RequestId,
        template: &Arc<Template>,
        args: &Payload,
    ) -> Result<(), WireError> {
        match self {
            Requests::Encoded(encoded) => encoded.push_submission(id, template, args)?,
            Requests::Whole(requests, bytes) => {
                *bytes += REQUEST_BYTES + usize::try_from(args.len()).unwrap_or(usize::MAX);
                let body = RequestBody::Submit { spec: Arc::clone(template.spec()), args: args.clone() };
                requests.push(Request { id, body });
            }
        }
        Ok(())
    }

    /// Bytes that they take.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Requests::Encoded(encoded) => encoded.outbox.len() + encoded.args.bytes(),
            Requests::Whole(_, bytes) => *bytes,
        }
    }

    /// Whether there is something that no further submission can join.
    pub(super) fn are_more_than_a_run(&self) -> bool {
        match self {
            Requests::Encoded(encoded) => !encoded.outbox.is_empty(),
            Requests::Whole(requests, _) => !requests.is_empty(),
        }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Requests::Encoded(encoded) => encoded.outbox.is_empty() && encoded.args.is_empty(),
            Requests::Whole(requests, _) => requests.is_empty(),
        }
    }
}

impl Encoded {
    /// All of them, and room for what is no part of a run.
    ///
    /// # Errors
    /// [`WireError`] when a run exceeds a cap, which none does.
    pub(super) fn outbox(&mut self) -> Result<&mut Outbox, WireError> {
        if let Some(Run { template, first }) = self.run.take() {
            let pushed = self.outbox.push_submissions(first, template.encoded(), &self.args);
            self.args.clear();
            pushed?;
        }
        Ok(&mut self.outbox)
    }

    fn push_submission(
        &mut self,
        id: RequestId,
        template: &Arc<Template>,
        args: &Payload,
    ) -> Result<(), WireError> {
        let Some(bytes) = bytes_for_a_run(template, args) else {
            return self.outbox()?.push_submission(id, template.encoded(), args);
        };
        if !self.is_followed_by(id, template) || !self.has_room_for(args, bytes) {
            self.outbox()?;
            self.run = Some(Run { template: Arc::clone(template), first: id });
        }
        self.args.push(args.encoding, bytes);
        Ok(())
    }

    fn is_followed_by(&self, id: RequestId, template: &Arc<Template>) -> bool {
        let follows = |run: &Run| {
            Arc::ptr_eq(&run.template, template) && run.first.plus(self.args.count().into()) == id
        };
        self.run.as_ref().is_some_and(follows)
    }

    fn has_room_for(&self, args: &Payload, bytes: &[u8]) -> bool {
        self.args.count() < RUN_TASKS_MAX
            && self.args.bytes() + bytes.len() <= RUN_BYTES_MAX
            && self.args.takes(args.encoding, bytes.len())
    }
}

/// The bytes of `args` if a submission of these can be one of a run: the daemon has rows for tasks that are alike and
/// wait for nothing but a worker.
fn bytes_for_a_run<'a>(template: &Template, args: &'a Payload) -> Option<&'a [u8]> {
    match &args.content {
        Content::Inline(bytes)
            if bytes.len() < RUN_BYTES_MAX
                && args.descriptors.count() == 0
                && template.waits_for_nothing() =>
        {
            Some(bytes)
        }
        Content::Inline(_) | Content::Shared(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::Descriptors;
    use crate::message::client::Request;
    use crate::task::{Encoding, TaskSpec};
    use crate::wire::Inbox;

    fn template(function: &str) -> Arc<Template> {
        Arc::new(Template::new(TaskSpec::new(function.parse().unwrap())).unwrap())
    }

    fn json(text: &str) -> Payload {
        Payload::new(Encoding::Json, text.as_bytes())
    }

    /// What the daemon reads.
    fn said(mut requests: Requests) -> Vec<Request> {
        let Requests::Encoded(encoded) = &mut requests else { panic!("they are for a socket") };
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        let outbox = encoded.outbox().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                outbox.send_all(&near).unwrap();
                near.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let mut inbox = Inbox::default();
            std::iter::from_fn(|| inbox.receive_from(&far).ok()).collect()
        })
    }

    /// Each task that is submitted, as if by itself, and every other request.
    fn apart(requests: Vec<Request>) -> Vec<Request> {
        let each = |request: Request| match request.body {
            RequestBody::SubmitAll { spec, args } => (0..)
                .zip(args.each())
                .map(|(number, args)| {
                    let body = RequestBody::Submit { spec: Arc::clone(&spec), args };
                    Request { id: request.id.plus(number), body }
                })
                .collect(),
            body => vec![Request { id: request.id, body }],
        };
        requests.into_iter().flat_map(each).collect()
    }

    #[test]
    fn submissions_that_are_alike_are_one_request_and_say_what_single_ones_do() {
        let (echo, sleep) = (template("echo"), template("sleep"));
        let mut requests = Requests::encoded();
        let mut singles = Vec::new();
        let long = "x".repeat(RUN_BYTES_MAX);
        let made = [
            (1, &echo, json("[1]")),
            (2, &echo, json("[2]")),
            // Another function, a gap, another encoding, much, and one after it.
            (3, &sleep, json("[3]")),
            (4, &sleep, json("[4]")),
            (6, &sleep, json("[6]")),
            (7, &sleep, Payload::new(Encoding::Bytes, &b"7"[..])),
            (8, &sleep, json(&long)),
            (9, &sleep, json("")),
        ];
        for (id, template, args) in &made {
            requests.push_submission(RequestId(*id), template, args).unwrap();
            let body = RequestBody::Submit { spec: Arc::clone(template.spec()), args: args.clone() };
            singles.push(Request { id: RequestId(*id), body });
        }
        let said = said(requests);
        let firsts: Vec<u64> = said.iter().map(|request| request.id.0).collect();
        assert_eq!(firsts, [1, 3, 6, 7, 8, 9]);
        assert_eq!(apart(said), singles);
    }

    #[test]
    fn other_request_ends_a_run_and_keeps_its_place() {
        let echo = template("echo");
        let mut requests = Requests::encoded();
        for id in [1, 2] {
            requests.push_submission(RequestId(id), &echo, &json("[1]")).unwrap();
        }
        requests.push(RequestId(3), RequestBody::Status).unwrap();
        requests.push_submission(RequestId(4), &echo, &json("[1]")).unwrap();
        let said = said(requests);
        assert!(matches!(&said[0].body, RequestBody::SubmitAll { args, .. } if args.count() == 2));
        assert_eq!(said[1].body, RequestBody::Status);
        assert!(matches!(&said[2].body, RequestBody::Submit { .. }));
    }

    #[test]
    fn run_holds_so_many_tasks_and_so_many_bytes() {
        let echo = template("echo");
        for args in [json("[1]"), json(&"x".repeat(RUN_BYTES_MAX / 4))] {
            let mut requests = Requests::encoded();
            for id in 1..=2 * u64::from(RUN_TASKS_MAX) {
                requests.push_submission(RequestId(id), &echo, &args).unwrap();
            }
            let said = said(requests);
            assert!(said.len() >= 2);
            for request in said {
                let RequestBody::SubmitAll { args, .. } = request.body else { panic!("{request:?}") };
                assert!(args.count() <= RUN_TASKS_MAX && args.len() <= RUN_BYTES_MAX as u64);
            }
        }
    }

    #[test]
    fn submission_with_open_files_or_a_delay_is_a_request_of_its_own() {
        let echo = template("echo");
        let file = std::os::fd::OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let with_file = Payload { descriptors: Descriptors::from(vec![file]), ..json("[1]") };
        let spec = TaskSpec { delay: Some(std::time::Duration::ZERO), ..TaskSpec::clone(echo.spec()) };
        let delayed = Arc::new(Template::new(spec).unwrap());
        for (template, args) in [(&echo, with_file), (&delayed, json("[1]"))] {
            let mut requests = Requests::encoded();
            for id in [1, 2] {
                requests.push_submission(RequestId(id), template, &args).unwrap();
            }
            let said = said(requests);
            assert_eq!(said.len(), 2);
            assert!(said.iter().all(|request| matches!(request.body, RequestBody::Submit { .. })));
        }
    }
}
