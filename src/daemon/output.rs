//! What workers print: the lines of their standard output and error go into the log, each with the
//! worker it came from, and the task if the worker runs one at a time.
//!
//! A line is cut at [`WORKER_LINE_BYTES_MAX`], so that a worker that never ends its line costs no more.

use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use rustix::io::Errno;

use super::token::{OutputStream, Token};
use crate::id::{PoolName, TaskId, WorkerId};
use crate::limits::WORKER_LINE_BYTES_MAX;

/// The log target of workers' lines.
pub(super) const LOG_TARGET: &str = "poold::worker";

/// Bytes asked for in one read.
const READ_BYTES: usize = 8 * 1024;

/// Who printed a line.
#[derive(Debug)]
pub(super) struct Speaker<'a> {
    pub(super) worker: WorkerId,
    pub(super) pool: &'a PoolName,
    /// What it was running, if anything, and if nothing else can have printed the line.
    pub(super) task: Option<TaskId>,
}

impl fmt::Display for Speaker<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "worker {} of pool {}", self.worker, self.pool)?;
        self.task.map_or(Ok(()), |task| write!(formatter, ", task {task}"))
    }
}

/// The reading end of one of a worker's output pipes.
#[derive(Debug)]
pub(super) struct Output {
    stream: OutputStream,
    pipe: OwnedFd,
    lines: Lines,
}

impl Output {
    /// Makes `pipe` non-blocking and has `registry` report on it as `token`.
    pub(super) fn open(
        stream: OutputStream,
        pipe: OwnedFd,
        token: Token,
        registry: &Registry,
    ) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        registry.register(&mut SourceFd(&pipe.as_raw_fd()), token.into(), Interest::READABLE)?;
        Ok(Output { stream, pipe, lines: Lines::default() })
    }

    /// Logs the lines that are there, out of at most `budget_bytes`. Says whether there may be more.
    ///
    /// The end closes nothing: it nearly always comes with the worker's, when a standby waits to be told.
    pub(super) fn read(&mut self, mut budget_bytes: usize, speaker: &Speaker<'_>) -> bool {
        let mut buffer = [0; READ_BYTES];
        while budget_bytes > 0 {
            match rustix::io::retry_on_intr(|| rustix::io::read(&self.pipe, &mut buffer)) {
                Ok(0) | Err(Errno::AGAIN) => return false,
                Ok(bytes) => {
                    budget_bytes = budget_bytes.saturating_sub(bytes);
                    let stream = self.stream;
                    self.lines.take_in(&buffer[..bytes], &mut |line| log_line(speaker, stream, line));
                }
                Err(error) => {
                    log::warn!("reading {} of {speaker} failed: {error}", self.stream.as_str());
                    return false;
                }
            }
        }
        true
    }

    /// Logs what is left when the worker has ended: a last line without its end.
    pub(super) fn close(mut self, speaker: &Speaker<'_>, registry: &Registry) {
        self.lines.finish(&mut |line| log_line(speaker, self.stream, line));
        // Failing, it would be because the poller no longer has it, which is what is wanted.
        let _ = registry.deregister(&mut SourceFd(&self.pipe.as_raw_fd()));
    }
}

fn log_line(speaker: &Speaker<'_>, stream: OutputStream, line: &[u8]) {
    let text = String::from_utf8_lossy(line);
    log::info!(target: LOG_TARGET, "{speaker}, {}: {text}", stream.as_str());
}

/// Bytes to lines.
#[derive(Debug, Default)]
struct Lines {
    /// The line whose end has not come.
    line: Vec<u8>,
    /// Whether that line was logged already, cut, so that the rest of it is skipped.
    is_cut: bool,
}

impl Lines {
    fn take_in(&mut self, bytes: &[u8], print: &mut impl FnMut(&[u8])) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(end) => {
                    self.append(end, print);
                    self.end_line(print);
                }
                None => self.append(piece, print),
            }
        }
    }

    fn finish(&mut self, print: &mut impl FnMut(&[u8])) {
        if !self.line.is_empty() {
            self.end_line(print);
        }
    }

    fn append(&mut self, bytes: &[u8], print: &mut impl FnMut(&[u8])) {
        if self.is_cut {
            return;
        }
        let room_bytes = WORKER_LINE_BYTES_MAX - self.line.len();
        self.line.extend_from_slice(&bytes[..bytes.len().min(room_bytes)]);
        if bytes.len() > room_bytes {
            self.line.extend_from_slice(b" [cut]");
            print(&mem::take(&mut self.line));
            self.is_cut = true;
        }
    }

    fn end_line(&mut self, print: &mut impl FnMut(&[u8])) {
        if !mem::take(&mut self.is_cut) {
            print(&self.line);
        }
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(chunks: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut printed = Vec::new();
        let mut print = |line: &[u8]| printed.push(String::from_utf8_lossy(line).into_owned());
        for chunk in chunks {
            lines.take_in(chunk, &mut print);
        }
        lines.finish(&mut print);
        printed
    }

    #[test]
    fn line_split_over_reads_is_printed_whole() {
        assert_eq!(printed(&[b"one\ntw", b"", b"o\n"]), ["one", "two"]);
    }

    #[test]
    fn empty_line_is_printed() {
        assert_eq!(printed(&[b"\n\na\n"]), ["", "", "a"]);
    }

    #[test]
    fn last_line_without_its_end_is_printed_when_the_worker_ends() {
        assert_eq!(printed(&[b"a\nb"]), ["a", "b"]);
    }

    #[test]
    fn lines_are_the_same_wherever_a_read_ends() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..1000 {
            let line = |rng: &mut fastrand::Rng| {
                let near_the_cap = WORKER_LINE_BYTES_MAX - 2 + rng.usize(0..5);
                let bytes = if rng.bool() { rng.usize(0..4) } else { near_the_cap };
                [vec![rng.u8(b'x'..), rng.u8(..)], vec![b'x'; bytes], vec![b'\n'; rng.usize(0..3)]].concat()
            };
            let whole: Vec<u8> = (0..rng.usize(0..4)).flat_map(|_| line(&mut rng)).collect();
            let mut pieces = Vec::new();
            let mut rest = whole.as_slice();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rng.usize(1..=rest.len()));
                pieces.push(piece);
                rest = after;
            }
            assert_eq!(printed(&pieces), printed(&[&whole]), "{pieces:?}");
        }
    }

    #[test]
    fn line_at_the_cap_is_printed_whole() {
        let line = "x".repeat(WORKER_LINE_BYTES_MAX);
        assert_eq!(printed(&[line.as_bytes(), b"\n"]), [line]);
    }

    #[test]
    fn line_over_the_cap_is_cut_and_its_rest_skipped() {
        let long = "x".repeat(WORKER_LINE_BYTES_MAX + 1);
        let kept = format!("{} [cut]", &long[1..]);
        assert_eq!(printed(&[long.as_bytes(), b"rest", b"\nnext\n"]), [kept.as_str(), "next"]);
        assert_eq!(printed(&[long.as_bytes(), b"rest"]), [kept]);
    }
}
