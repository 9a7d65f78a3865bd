//! The log: one line per record on standard error, by way of a bounded queue and a thread of its own, so that a reader
//! who does not keep up never stops the daemon. What finds no room, or cannot be written since the disk is full, is
//! dropped and counted, and the count is itself a line of the log. What workers print may fill half of the queue: a
//! worker that prints without end does not push out what the daemon has to say of it.
//!
//! Which records are kept is `RUST_LOG`'s word, by default those of level `info` and above; a private
//! daemon tells the program that started it what goes wrong, and what functions print.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::SystemTime;

use env_logger::{Env, Logger};
use log::{Level, LevelFilter, Log, Metadata, Record};

use super::output;
use crate::limits::{FAREWELL_TIMEOUT, LOG_LINES_MAX};

/// The daemon's side of the log.
#[derive(Debug)]
pub(super) struct Logging {
    queue: Sender<Entry>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Lines in the queue, which is bounded by this alone: a channel with a bound of its own would take all of its
    /// memory at once.
    waiting: AtomicUsize,
    /// Lines that found no room, or could not be written.
    dropped: AtomicU64,
}

#[derive(Debug)]
enum Entry {
    Line(String),
    /// Everything before it is written when this is dropped.
    Flush {
        _done: SyncSender<()>,
    },
}

/// What `log` calls.
struct Queue {
    /// Only asked which records to keep.
    filter: Logger,
    format: Format,
    queue: Sender<Entry>,
    counts: Arc<Counts>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// For the journal, which has a time of its own: `<6>poold: text`.
    Journal,
    /// For everyone else: `2026-01-31T12:00:00.000Z INFO poold: text`.
    Plain,
}

/// Which records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    /// Those that `RUST_LOG` names, by default those of level `info` and above.
    FromEnvironment,
    /// What goes wrong, and what functions print: `RUST_LOG` is the program's own.
    ForProgram,
}

impl Filter {
    fn build(self) -> Logger {
        match self {
            Filter::FromEnvironment => {
                env_logger::Builder::from_env(Env::default().default_filter_or("info")).build()
            }
            Filter::ForProgram => env_logger::Builder::new()
                .filter_level(LevelFilter::Warn)
                .filter_module(output::LOG_TARGET, LevelFilter::Info)
                .build(),
        }
    }
}

impl Logging {
    /// Starts the thread and becomes the process's logger, unless it has one.
    pub(super) fn start(filter: Filter) -> io::Result<Self> {
        let (queue, entries) = channel();
        let counts = Arc::new(Counts::default());
        let format = Format::of_stderr();
        let logger =
            Queue { filter: filter.build(), format, queue: queue.clone(), counts: Arc::clone(&counts) };
        let level = logger.filter.filter();
        if log::set_boxed_logger(Box::new(logger)).is_ok() {
            log::set_max_level(level);
        }
        let counts_of_thread = Arc::clone(&counts);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_entries(&entries, &counts_of_thread, format, io::stderr()))?;
        Ok(Logging { queue, counts })
    }

    /// Keeps nothing but errors from now on: whoever the log was for is gone.
    pub(super) fn hush(&self) {
        log::set_max_level(LevelFilter::Error);
    }

    /// Lines that found no room so far, or could not be written.
    pub(super) fn lines_dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything is written, for a while.
    pub(super) fn finish(&self) {
        let (done, written) = sync_channel(0);
        if self.queue.send(Entry::Flush { _done: done }).is_ok() {
            match written.recv_timeout(FAREWELL_TIMEOUT) {
                Ok(()) | Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl Log for Queue {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.filter.matches(record) {
            return;
        }
        let lines_max = match record.target() {
            output::LOG_TARGET => LOG_LINES_MAX / 2,
            _ => LOG_LINES_MAX,
        };
        let is_room = self.counts.waiting.fetch_add(1, Ordering::Relaxed) < lines_max;
        let line = || self.format.line(record.level(), record.target(), &record.args().to_string());
        if !is_room || self.queue.send(Entry::Line(line())).is_err() {
            self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

fn write_entries(entries: &Receiver<Entry>, counts: &Counts, format: Format, mut out: impl Write) {
    let mut told = 0;
    for entry in entries {
        match entry {
            Entry::Line(line) => {
                counts.waiting.fetch_sub(1, Ordering::Relaxed);
                if out.write_all(line.as_bytes()).is_err() {
                    // It cannot be complained about in the log; the disk may have room again for the next line.
                    counts.dropped.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            }
            Entry::Flush { .. } => _ = out.flush(),
        }
        let dropped = counts.dropped.load(Ordering::Relaxed);
        if dropped > told {
            let lines = dropped - told;
            let text = format!(
                "lines of the log dropped because they came too fast or could not be written: {lines}"
            );
            if out.write_all(format.line(Level::Warn, super::LOG_TARGET, &text).as_bytes()).is_ok() {
                told = dropped;
            }
        }
    }
}

impl Format {
    /// What standard error is connected to says `JOURNAL_STREAM` (systemd.exec(5)).
    fn of_stderr() -> Self {
        let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        let stderr = io::stderr().as_fd().try_clone_to_owned().map(fs::File::from);
        match stderr.and_then(|file| file.metadata()) {
            Ok(metadata) => {
                use std::os::unix::fs::MetadataExt;
                let actual = format!("{}:{}", metadata.dev(), metadata.ino());
                if actual == named { Format::Journal } else { Format::Plain }
            }
            Err(_) => Format::Plain,
        }
    }

    /// One line, its end included. Control characters are escaped: a peer's words are part of some
    /// records and must neither make lines of their own nor reach a terminal.
    fn line(self, level: Level, target: &str, text: &str) -> String {
        let mut line = match self {
            Format::Journal => format!("<{}>{target}: ", journal_priority(level)),
            Format::Plain => {
                let time = humantime::format_rfc3339_millis(SystemTime::now());
                format!("{time} {level:<5} {target}: ")
            }
        };
        for character in text.chars() {
            if character.is_control() {
                // Writing to a String does not fail.
                let _ = write!(line, "{}", character.escape_default());
            } else {
                line.push(character);
            }
        }
        line.push('\n');
        line
    }
}

/// The number for `level` in sd-daemon(3).
const fn journal_priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_of_many_lines_stays_on_one() {
        assert_eq!(
            Format::Journal.line(Level::Warn, "poold", "a\nb\u{1b}[31mc"),
            "<4>poold: a\\nb\\u{1b}[31mc\n"
        );
    }

    #[test]
    fn workers_that_fill_their_half_leave_room_for_the_daemon() {
        let (queue, _entries) = channel();
        let counts = Arc::new(Counts::default());
        counts.waiting.store(LOG_LINES_MAX / 2, Ordering::Relaxed);
        let filter = env_logger::Builder::new().filter_level(log::LevelFilter::Info).build();
        let logger = Queue { filter, format: Format::Journal, queue, counts: Arc::clone(&counts) };
        let log = |target| {
            let record =
                Record::builder().level(Level::Info).target(target).args(format_args!("text")).build();
            logger.log(&record);
            counts.dropped.load(Ordering::Relaxed)
        };
        assert_eq!(log(output::LOG_TARGET), 1);
        assert_eq!(log(super::super::LOG_TARGET), 1);
    }

    #[test]
    fn dropped_lines_are_reported_once() {
        let (queue, entries) = channel();
        queue.send(Entry::Line("one\n".to_owned())).expect("there is room");
        queue.send(Entry::Line("two\n".to_owned())).expect("there is room");
        drop(queue);
        let mut out = Vec::new();
        let counts = Counts { waiting: AtomicUsize::new(2), dropped: AtomicU64::new(3) };
        write_entries(&entries, &counts, Format::Journal, &mut out);
        let text = String::from_utf8(out).expect("it is text");
        assert_eq!(counts.waiting.into_inner(), 0);
        assert_eq!(
            text,
            "one\n<4>poold: lines of the log dropped because they came too fast or could not be written: 3\ntwo\n"
        );
    }

    /// A disk that is full for so many writes.
    struct FullFor(u32, Vec<u8>);

    impl Write for FullFor {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return self.1.write(bytes);
            }
            self.0 -= 1;
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_reported_once_it_is_possible() {
        let (queue, entries) = channel();
        for line in ["one\n", "two\n", "three\n"] {
            queue.send(Entry::Line(line.to_owned())).expect("there is room");
        }
        drop(queue);
        let mut out = FullFor(2, Vec::new());
        let counts = Counts { waiting: AtomicUsize::new(3), dropped: AtomicU64::new(0) };
        write_entries(&entries, &counts, Format::Journal, &mut out);
        let text = String::from_utf8(out.1).expect("it is text");
        let report = "lines of the log dropped because they came too fast or could not be written: 2";
        assert_eq!(text, format!("three\n<4>poold: {report}\n"));
    }
}
