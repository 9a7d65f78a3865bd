//! What has begun and ended, on the page that the daemon shares with this worker: see [`crate::os::page`].
//!
//! Nothing is written to the socket for an attempt. The page's bell is rung when nothing is left to do, and when the
//! last time is some time ago. So a single attempt is reported at once, and many short ones with one ring.

use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;

use super::asking::Desk;
use super::attempts::{Job, Workplace};
use super::session::Broken;
use super::waiting::{Attempt, Next, Run};
use crate::id::{AttemptId, TaskId};
use crate::limits::{PROCESS_START_MIN, REPORT_DELAY_MAX};
use crate::message::worker::{FromWorker, Report};
use crate::os::page::{RECORD_BYTES_MAX, WorkerSide};
use crate::task::{Content, Payload};
use crate::wire;

/// The worker's side of the page.
pub(super) struct Reports {
    page: WorkerSide,
    /// What is to be published, encoded.
    buffer: BytesMut,
    /// Whether something was published, or passed over, since the daemon was last told so.
    is_untold: bool,
    /// When the daemon is told next, at the latest when an attempt is over then.
    tells_at: Instant,
    /// With how many attempts left it is told in any case; none are left where that is done otherwise.
    tells_with: usize,
    /// When the last attempt was over, or what there was to do was read.
    free_since: Instant,
}

impl Reports {
    /// On the page behind `files`.
    ///
    /// # Errors
    /// It is none, or cannot be mapped.
    pub(super) fn on(files: [OwnedFd; 2]) -> io::Result<Self> {
        let page = WorkerSide::open(files)?;
        let now = Instant::now();
        Ok(Reports {
            page,
            buffer: BytesMut::new(),
            is_untold: false,
            tells_at: now,
            tells_with: 0,
            free_since: now,
        })
    }

    /// Runs what comes next, behind which so many attempts are left.
    pub(super) fn run(
        &mut self,
        next: Next,
        left: usize,
        workplace: &Workplace,
        desk: &Arc<Desk>,
    ) -> Result<(), Broken> {
        match next {
            Next::Attempt(Attempt { attempt, task, function, args }) => {
                let job = workplace.job(&function, desk);
                workplace.during_calls(|| self.attempt(&job, attempt, task, args, left))
            }
            Next::Run(Run { attempt, task, function, args }) => {
                let job = workplace.job(&function, desk);
                let left = (left..left + args.count() as usize).rev();
                let mut each = (0..).zip(args.each()).zip(left);
                workplace.during_calls(|| {
                    each.try_for_each(|((number, args), left)| {
                        self.attempt(&job, attempt.plus(number), task.plus(number), args, left)
                    })
                })
            }
        }
    }

    /// Runs one attempt and reports it; or passes it over, if it was taken back.
    fn attempt(
        &mut self,
        job: &Job<'_>,
        attempt: AttemptId,
        task: TaskId,
        args: Payload,
        left: usize,
    ) -> Result<(), Broken> {
        if !self.page.begin(attempt.0) {
            self.is_untold = true;
            return Ok(());
        }
        let (report, has_asked) = job.perform(attempt, task, args);
        let started_at = mem::replace(&mut self.free_since, Instant::now());
        if self.free_since > started_at + PROCESS_START_MIN {
            job.tidy_up();
        }
        // What it asked is on the socket: its end must not overtake that.
        if has_asked || !self.publish(attempt, &report)? {
            job.sender().say(&FromWorker::Finished { attempt, report })?;
        }
        // At half of what there was the daemon can send more before the rest is done.
        match self.free_since > self.tells_at || left == self.tells_with {
            true => self.tell(),
            false => Ok(()),
        }
    }

    /// There are so many attempts to run again.
    pub(super) fn wake(&mut self, attempts: usize) {
        self.free_since = Instant::now();
        self.tells_with = attempts / 2;
    }

    /// Puts the end of an attempt on the page, if there is room for it and no descriptor goes with it.
    fn publish(&mut self, attempt: AttemptId, report: &Report) -> Result<bool, Broken> {
        self.buffer.clear();
        match report {
            Report::Ok(result) => match &result.content {
                Content::Inline(bytes)
                    if bytes.len() <= RECORD_BYTES_MAX && result.descriptors.count() == 0 =>
                {
                    wire::encode_result(attempt, result.encoding, bytes, &mut self.buffer)?;
                }
                Content::Inline(_) | Content::Shared(_) => return Ok(false),
            },
            Report::Failed(_) => {
                let finished = FromWorker::Finished { attempt, report: report.clone() };
                wire::encode(&finished, &mut self.buffer)?;
            }
        }
        let is_published = self.page.publish(&self.buffer);
        self.is_untold |= is_published;
        Ok(is_published)
    }

    /// Tells the daemon of what was published, if it does not know that there is something. To be called too when nothing
    /// is left to do.
    pub(super) fn tell(&mut self) -> Result<(), Broken> {
        if !mem::take(&mut self.is_untold) {
            return Ok(());
        }
        self.tells_at = self.free_since + REPORT_DELAY_MAX;
        Ok(self.page.ring()?)
    }
}
