//! The lines of standard input, read on a thread of their own and only when asked for.
//!
//! A line is all that stands before its newline, a carriage return included; the last one needs no
//! newline, and an empty line is a line.

use std::io::{self, BufRead};
use std::sync::mpsc::{self, Sender};
use std::thread;

/// A line of the input.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Its bytes without the newline, as many as are kept.
    pub(super) text: Vec<u8>,
    /// How many bytes it has beyond those.
    pub(super) bytes_cut: u64,
}

/// What reading brings.
#[derive(Debug)]
pub(super) enum Input {
    /// The next line.
    Line(Line),
    /// There is no further line.
    End,
    /// Reading failed.
    Failed(io::Error),
}

/// Starts to read: `tell` is called once for every `()` that is sent to what this returns, until the end.
/// Of a line, `bytes_max` are kept, so that an input without newlines does not fill the memory.
pub(super) fn start(bytes_max: usize, tell: impl Fn(Input) + Send + 'static) -> Sender<()> {
    let (permit, permits) = mpsc::channel();
    thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        for () in permits {
            match next_line(&mut stdin, bytes_max) {
                Ok(Some(line)) => tell(Input::Line(line)),
                Ok(None) => return tell(Input::End),
                Err(error) => return tell(Input::Failed(error)),
            }
        }
    });
    permit
}

/// The next line, or nothing at the end of the input.
fn next_line(reader: &mut impl BufRead, bytes_max: usize) -> io::Result<Option<Line>> {
    let mut line = Line { text: Vec::new(), bytes_cut: 0 };
    let mut is_line = false;
    loop {
        let buffer = match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            filled => filled?,
        };
        if buffer.is_empty() {
            return Ok(is_line.then_some(line));
        }
        is_line = true;
        let newline = buffer.iter().position(|byte| *byte == b'\n');
        let part = &buffer[..newline.unwrap_or(buffer.len())];
        let kept = part.len().min(bytes_max - line.text.len());
        line.text.extend_from_slice(&part[..kept]);
        line.bytes_cut += (part.len() - kept) as u64;
        let consumed = part.len() + usize::from(newline.is_some());
        reader.consume(consumed);
        if newline.is_some() {
            return Ok(Some(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    /// The lines of `input`, read through a buffer of three bytes.
    fn lines(input: &[u8], bytes_max: usize) -> Vec<(Vec<u8>, u64)> {
        let mut reader = BufReader::with_capacity(3, input);
        std::iter::from_fn(|| next_line(&mut reader, bytes_max).expect("a slice can be read"))
            .map(|line| (line.text, line.bytes_cut))
            .collect()
    }

    #[test]
    fn next_line_last_one_needs_no_newline_and_empty_ones_count() {
        let expected = [b"abcd".to_vec(), b"".to_vec(), b"e\r".to_vec(), b"f".to_vec()].map(|text| (text, 0));
        assert_eq!(lines(b"abcd\n\ne\r\nf", 100), expected);
        assert_eq!(lines(b"f\n", 100), [(b"f".to_vec(), 0)]);
        assert_eq!(lines(b"", 100), []);
    }

    #[test]
    fn next_line_too_long_is_cut_and_counted_and_the_next_is_whole() {
        assert_eq!(lines(b"abcdefgh\nij\n", 4), [(b"abcd".to_vec(), 4), (b"ij".to_vec(), 0)]);
    }
}
