//! What clients' requests mean: most become events, those that only ask are answered from what the
//! supervisor and the daemon know.

use super::clock::deadline_at;
use super::memory::resident_bytes;
use super::serve::memory_descriptors;
use super::token::Token;
use super::{Daemon, LOG_TARGET};
use crate::id::{ConnectionId, Pid, RequestId};
use crate::limits::{FUNCTION_ROWS_MAX, PAGE_ROWS_MAX, REQUESTS_PER_TURN};
use crate::message::client::{Refusal, Reply, ReplyBody, Request, RequestBody};
use crate::message::status::Status;
use crate::supervisor::{DescriptorPolicy, Event, Policy};
use crate::task::Attachment;

impl Daemon<'_> {
    /// Does what a client asks for.
    pub(super) fn take_request(&mut self, client: ConnectionId, request: Request) {
        let Request { id: request, body } = request;
        match body {
            RequestBody::Submit { spec, args } => {
                self.closer.take_over(&args);
                let deadline = spec.deadline.map(|deadline| deadline_at(self.now, deadline));
                if spec.attachment == Attachment::Attached {
                    self.touched.extend(self.clients.note_submission(client, request).map(Token::Client));
                }
                self.step(Event::Submitted { client, request, spec, deadline, args });
            }
            RequestBody::SubmitAll { spec, args } => {
                let deadline = spec.deadline.map(|deadline| deadline_at(self.now, deadline));
                self.touched.extend(self.clients.note_submissions().map(Token::Client));
                self.step(Event::SubmittedAll { client, request, spec, deadline, args });
            }
            RequestBody::Cancel { task } => self.step(Event::CancelRequested { client, request, task }),
            RequestBody::Result { task, wait } => {
                self.step(Event::ResultRequested { client, request, task, wait });
            }
            RequestBody::Status => self.answer(client, request, ReplyBody::Status(Box::new(self.status()))),
            RequestBody::Workers { skip } => self.answer(client, request, self.workers_page(skip as usize)),
            RequestBody::Tasks { after } => {
                let (rows, more) = self.supervisor.tasks(self.now, after, PAGE_ROWS_MAX);
                self.answer(client, request, ReplyBody::Tasks { rows, more });
            }
            RequestBody::Functions { skip } => {
                let (rows, more) = self.supervisor.functions(skip as usize, FUNCTION_ROWS_MAX);
                self.answer(client, request, ReplyBody::Functions { rows, more });
            }
            RequestBody::Reload => self.reload_for(client, request),
            RequestBody::Drain => {
                if self.may_administer(client, request, "drain") {
                    self.step(Event::DrainRequested { client, request });
                }
            }
            RequestBody::Release { function } => {
                if self.may_administer(client, request, "release functions") {
                    self.step(Event::ReleaseRequested { client, request, function });
                }
            }
        }
    }

    fn answer(&mut self, client: ConnectionId, request: RequestId, body: ReplyBody) {
        self.clients.say(client, &Reply { request: Some(request), body });
        self.touched.insert(Token::Client(client));
    }

    pub(super) fn refuse(&mut self, client: ConnectionId, request: RequestId, refusal: Refusal) {
        self.clients.refuse(client, request, refusal);
        self.touched.insert(Token::Client(client));
    }

    fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: Pid(std::process::id()),
            uptime_ms: self.now.as_nanos() / 1_000_000,
            phase: self.supervisor.phase(),
            connections: self.clients.len() as u64,
            tasks: self.supervisor.task_counts(),
            outcomes: self.supervisor.outcomes(),
            refusals: self.supervisor.refusals() + self.clients.refusals() + self.functions.refusals(),
            log_lines_dropped: self.logging.lines_dropped(),
            limits: self.limits.clone(),
            pools: self.supervisor.pools(),
            quarantined: self.supervisor.quarantined().cloned().collect(),
        }
    }

    fn workers_page(&self, skip: usize) -> ReplyBody {
        let (mut rows, more) = self.supervisor.workers(self.now, skip, PAGE_ROWS_MAX);
        for row in &mut rows {
            row.rss_bytes = row.pid.and_then(resident_bytes);
        }
        ReplyBody::Workers { rows, more }
    }

    fn reload_for(&mut self, client: ConnectionId, request: RequestId) {
        if !self.may_administer(client, request, "reload") {
            return;
        }
        match self.reload_config() {
            Ok(changes) => self.answer(client, request, ReplyBody::Reloaded { changes }),
            Err(reason) => self.refuse(client, request, Refusal::NotReloaded(reason)),
        }
        self.turn_out_unwelcome();
    }

    /// Reads the configuration again; gives what changed, which it logs, or why nothing did.
    pub(super) fn reload_config(&mut self) -> Result<Vec<String>, String> {
        self.notifier.reloading();
        let reloaded = self.read_config_again();
        self.notifier.reloaded();
        self.is_news = true;
        if let Ok(changes) = &reloaded {
            let changes = if changes.is_empty() { "nothing changed" } else { &changes.join("; ") };
            log::info!(target: LOG_TARGET, "configuration reloaded: {changes}");
        }
        reloaded
    }

    fn read_config_again(&mut self) -> Result<Vec<String>, String> {
        let (config, changes) = (self.reload)(&self.config)?;
        self.door.set_access(&config).map_err(|error| error.to_string())?;
        let before = self.supervisor.policy();
        let descriptors = DescriptorPolicy::within(memory_descriptors(&config, self.descriptors_max));
        let policy = config.policy(before.daemon_user, Some((&self.config, before)));
        let policy = Box::new(Policy { descriptors, ..policy });
        self.config = config;
        self.clients.set_payload_bytes_max(self.config.limits.payload_bytes);
        self.step(Event::PolicyChanged { policy });
        self.are_rules_checked = false;
        self.check_rules();
        Ok(changes)
    }
}

/// Tasks submitted at once that cost about as much as another request.
const TASKS_PER_SHARE: u32 = 16;

/// How many of [`REQUESTS_PER_TURN`] a request counts as.
pub(super) fn share_of(request: &RequestBody) -> u32 {
    match request {
        RequestBody::SubmitAll { args, .. } => 1 + args.count() / TASKS_PER_SHARE,
        RequestBody::Submit { .. }
        | RequestBody::Cancel { .. }
        | RequestBody::Result { .. }
        | RequestBody::Drain
        | RequestBody::Release { .. } => 1,
        RequestBody::Status
        | RequestBody::Workers { .. }
        | RequestBody::Tasks { .. }
        | RequestBody::Functions { .. }
        | RequestBody::Reload => REQUESTS_PER_TURN,
    }
}
