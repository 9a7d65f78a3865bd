//! `poolctl map`: a task per line of standard input.
//!
//! ```text
//!   stdin ──lines──┐                        ┌──> daemon
//!    (a thread)    ├──> Mapping: the window ┤
//!   daemon ─replies┘    of lines in hand    └──> Report: stdout, stderr, exit status
//!    (a thread)
//! ```
//!
//! One thread owns all state; the others wait for input and pass it on. The window bounds how many lines
//! are in hand, read and not yet printed, so an endless input streams through constant memory.

mod input;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;

use clap::Args;
use poold::client::{self, Connection, Sender};
use poold::id::{FunctionName, RequestId, TaskId};
use poold::message::client::{Refusal, ReplyBody, RequestBody};
use poold::task::{Attachment, Outcome, Payload, Started, TaskSpec};

use self::input::{Input, Line};
use self::report::{Ending, Report, Style};
use crate::error::Error;
use crate::submission::Submission;
use crate::terminal::{self, Progress};

/// Lines in hand at a time: enough to keep a large pool busy behind one slow line.
const WINDOW_LINES: usize = 1024;

/// Bytes of lines and results in hand beyond which no further line is asked for.
const WINDOW_BYTES: usize = 64 * 1024 * 1024;

/// Lines asked for ahead of their reading, so that large ones do not overrun [`WINDOW_BYTES`] by much.
const LINES_AHEAD: usize = 64;

/// Run a function on each line of standard input
///
/// The whole line, without its newline, is the one argument. Results are printed in the order of the
/// lines, one line for each; a task that is not ok gives an empty line, and is told of on standard error.
/// Text or bytes that hold a newline are printed as JSON: a string or, where they are no text, an array of numbers.
#[derive(Debug, Args)]
pub(crate) struct Map {
    /// What to run; `poolctl functions` lists what there is
    function: FunctionName,
    #[command(flatten)]
    submission: Submission,
    /// Print results as they come, each behind the number of its line and a tab
    #[arg(long)]
    as_completed: bool,
    /// Print an object per line: {line, id, outcome, result | error}
    #[arg(long)]
    json: bool,
}

/// What the threads that wait tell the one that decides.
enum Event {
    Input(Input),
    Reply(RequestId, ReplyBody),
    ConnectionEnded(client::Error),
}

impl Map {
    pub(crate) fn run(self, connection: Connection) -> Result<u8, Error> {
        let (sender, mut replies) = connection.split();
        let (tell, events) = mpsc::channel();

        let tell_input = tell.clone();
        // The other side hangs up when the command is over, and nobody wants to know any more.
        let permits = input::start(sender.payload_bytes_max() as usize, move |input| {
            let _ = tell_input.send(Event::Input(input));
        });
        thread::spawn(move || {
            loop {
                let (event, last) = match replies.receive() {
                    Ok((id, body)) => (Event::Reply(id, body), false),
                    Err(error) => (Event::ConnectionEnded(error), true),
                };
                if tell.send(event).is_err() || last {
                    return;
                }
            }
        });

        let style = match (self.json, self.as_completed) {
            (true, _) => Style::Json,
            (false, true) => Style::Numbered,
            (false, false) => Style::Plain,
        };
        let mapping = Mapping {
            spec: self.submission.task(self.function),
            in_order: !self.as_completed,
            sender,
            permits,
            permits_open: 0,
            reading: true,
            window: BTreeMap::new(),
            window_bytes: 0,
            held: BTreeSet::new(),
            outstanding: 0,
            lines_read: 0,
            lines_done: 0,
            report: Report::new(style),
            progress: Progress::start(),
        };
        mapping.run(&events)
    }
}

/// Where a line in hand is.
#[derive(Debug)]
enum Slot {
    /// The queue was full: it is to be submitted when another line has ended.
    Held(Payload),
    /// Submitted and not answered. The arguments are kept for the case that the queue is full.
    Submitted(Payload),
    /// Accepted as this task.
    Accepted(TaskId),
    /// Ended, and not printed: an earlier line is to be printed first.
    Ended(Ending),
}

/// The lines in hand. The number of a line is the number of its request.
struct Mapping {
    spec: TaskSpec,
    in_order: bool,
    sender: Sender,
    /// Each `()` asks for a line.
    permits: mpsc::Sender<()>,
    /// Lines asked for and not read.
    permits_open: usize,
    /// Whether further lines are wanted and there may be some.
    reading: bool,
    window: BTreeMap<u64, Slot>,
    /// Bytes of lines and results in the window.
    window_bytes: usize,
    /// The lines that are [`Slot::Held`].
    held: BTreeSet<u64>,
    /// How many are [`Slot::Submitted`] or [`Slot::Accepted`].
    outstanding: usize,
    lines_read: u64,
    lines_done: u64,
    report: Report,
    progress: Progress,
}

impl Mapping {
    fn run(mut self, events: &Receiver<Event>) -> Result<u8, Error> {
        self.ask_for_lines();
        while self.reading || !self.window.is_empty() {
            // Whatever is there is dealt with before anything is written out: one write for many lines.
            match events.try_recv() {
                Ok(event) => self.handle(event)?,
                Err(_) => {
                    self.settle()?;
                    if let Some(event) = self.wait(events)? {
                        self.handle(event)?;
                    }
                }
            }
        }
        self.report.flush()?;
        terminal::clear();
        Ok(self.report.status())
    }

    /// The next event; nothing when it is time to show progress instead.
    fn wait(&self, events: &Receiver<Event>) -> Result<Option<Event>, Error> {
        let received = match self.progress.due_in() {
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due_in) => events.recv_timeout(due_in),
        };
        match received {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            // Both threads have ended, and each had told why before.
            Err(RecvTimeoutError::Disconnected) => Err(client::Error::Gone.into()),
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Input(Input::Line(line)) => self.take_line(line),
            Event::Input(Input::End) => {
                self.reading = false;
                Ok(())
            }
            Event::Input(Input::Failed(error)) => self.stop(self.lines_read + 1, Error::Input(error)),
            Event::Reply(RequestId(line), body) => self.take_reply(line, body),
            Event::ConnectionEnded(client::Error::Gone) => self.lose(),
            Event::ConnectionEnded(error) => Err(error.into()),
        }
    }

    /// Sends and shows all that waits for it, then asks for as many lines as there is room for.
    fn settle(&mut self) -> Result<(), Error> {
        self.sender.flush()?;
        self.report.flush()?;
        self.progress.draw_if_due(self.lines_done, self.lines_read);
        self.ask_for_lines();
        Ok(())
    }

    fn ask_for_lines(&mut self) {
        while self.reading
            && self.held.is_empty()
            && self.permits_open < LINES_AHEAD
            && self.window.len() + self.permits_open < WINDOW_LINES
            && self.window_bytes < WINDOW_BYTES
        {
            self.permits_open += 1;
            // A reader that is gone has told why; that is on its way.
            let _ = self.permits.send(());
        }
    }

    fn take_line(&mut self, Line { text, bytes_cut }: Line) -> Result<(), Error> {
        self.permits_open -= 1;
        if !self.reading {
            return Ok(());
        }
        self.lines_read += 1;
        let line = self.lines_read;
        if bytes_cut > 0 {
            let bytes_max = self.sender.payload_bytes_max();
            let refusal = Refusal::PayloadTooLarge { bytes: text.len() as u64 + bytes_cut + 1, bytes_max };
            return self.end(line, Ending::Refused(client::Error::from(refusal).into()));
        }
        if text.contains(&0) {
            let reason =
                "an argument cannot hold a zero byte; is the input text, a task per line?".to_owned();
            return self.end(line, Ending::Refused(Error::Usage(reason)));
        }
        let args = Payload::from_args([text]);
        if self.held.is_empty() { self.submit(line, args) } else { self.hold(line, args) }
    }

    fn submit(&mut self, line: u64, args: Payload) -> Result<(), Error> {
        let body = RequestBody::Submit { spec: self.spec.clone().into(), args: args.clone() };
        match self.sender.push(RequestId(line), body) {
            Ok(()) => {
                self.outstanding += 1;
                self.put(line, Slot::Submitted(args));
                Ok(())
            }
            Err(error @ client::Error::Refused(_)) => self.end(line, Ending::Refused(error.into())),
            Err(error) => Err(error.into()),
        }
    }

    fn hold(&mut self, line: u64, args: Payload) -> Result<(), Error> {
        self.held.insert(line);
        self.put(line, Slot::Held(args));
        Ok(())
    }

    fn take_reply(&mut self, line: u64, body: ReplyBody) -> Result<(), Error> {
        let unexpected = || Err(client::Error::UnexpectedReply.into());
        match (self.take(line), body) {
            (Some(Slot::Submitted(_)), ReplyBody::Accepted { task }) => match self.spec.attachment {
                Attachment::Attached => {
                    self.put(line, Slot::Accepted(task));
                    Ok(())
                }
                Attachment::Detached => self.end_submitted(line, Ending::Detached(task)),
            },
            (Some(Slot::Accepted(_)), ReplyBody::Done { task, outcome }) => {
                self.end_submitted(line, Ending::Done(task, outcome))
            }
            (Some(Slot::Submitted(args)), ReplyBody::Refused(refusal)) => {
                self.take_refusal(line, args, refusal)
            }
            _ => unexpected(),
        }
    }

    /// A full queue is waited for as long as it is full of our own tasks. What would be refused of every
    /// further line ends it all.
    fn take_refusal(&mut self, line: u64, args: Payload, refusal: Refusal) -> Result<(), Error> {
        if refusal.is_queue_full() && self.outstanding > 1 {
            self.outstanding -= 1;
            return self.hold(line, args);
        }
        let concerns_this_line = matches!(refusal, Refusal::PayloadTooLarge { .. });
        let error = Error::from(client::Error::from(refusal));
        if concerns_this_line {
            return self.end_submitted(line, Ending::Refused(error));
        }
        self.outstanding -= 1;
        self.stop(line, error)
    }

    /// Ends a line that was submitted, which makes room for one that the full queue refused.
    fn end_submitted(&mut self, line: u64, ending: Ending) -> Result<(), Error> {
        self.outstanding -= 1;
        self.end(line, ending)?;
        let Some(next) = self.held.pop_first() else { return Ok(()) };
        match self.take(next) {
            Some(Slot::Held(args)) => self.submit(next, args),
            other => unreachable!("line {next} is among those held, and is {other:?}"),
        }
    }

    fn end(&mut self, line: u64, ending: Ending) -> Result<(), Error> {
        self.lines_done += 1;
        if !self.in_order {
            return self.report.tell(line, ending);
        }
        self.put(line, Slot::Ended(ending));
        while let Some((&first, Slot::Ended(_))) = self.window.first_key_value() {
            if let Some(Slot::Ended(ending)) = self.take(first) {
                self.report.tell(first, ending)?;
            }
        }
        Ok(())
    }

    /// Asks for nothing more and submits nothing more: `line` and those held end for the same reason.
    /// What was accepted goes on.
    fn stop(&mut self, line: u64, error: Error) -> Result<(), Error> {
        self.held.insert(line);
        self.stop_held(error)
    }

    fn stop_held(&mut self, error: Error) -> Result<(), Error> {
        self.reading = false;
        let error = Rc::new(error);
        for line in std::mem::take(&mut self.held) {
            self.take(line);
            self.end(line, Ending::Stopped(Rc::clone(&error)))?;
        }
        Ok(())
    }

    /// The daemon is gone: what it had accepted is lost, and nothing more can be submitted.
    fn lose(&mut self) -> Result<(), Error> {
        if self.reading {
            self.held.insert(self.lines_read + 1);
        }
        let lines: Vec<u64> = self.window.keys().copied().collect();
        for line in lines {
            match self.window.get(&line) {
                Some(&Slot::Accepted(task)) => {
                    self.take(line);
                    self.end(line, Ending::Done(task, Outcome::Lost { started: Started::Unknown }))?;
                }
                Some(Slot::Submitted(_)) => {
                    self.held.insert(line);
                }
                Some(Slot::Held(_) | Slot::Ended(_)) | None => {}
            }
        }
        self.stop_held(client::Error::Gone.into())
    }

    fn put(&mut self, line: u64, slot: Slot) {
        self.window_bytes += slot.bytes();
        self.window.insert(line, slot);
    }

    fn take(&mut self, line: u64) -> Option<Slot> {
        let slot = self.window.remove(&line)?;
        self.window_bytes -= slot.bytes();
        Some(slot)
    }
}

impl Slot {
    /// Bytes that it holds.
    fn bytes(&self) -> usize {
        match self {
            Slot::Held(args) | Slot::Submitted(args) => args.len() as usize,
            Slot::Ended(Ending::Done(_, outcome)) => outcome.payload_bytes() as usize,
            Slot::Accepted(_)
            | Slot::Ended(Ending::Detached(_) | Ending::Refused(_) | Ending::Stopped(_)) => 0,
        }
    }
}
