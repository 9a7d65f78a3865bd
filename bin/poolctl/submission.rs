//! The options that every command has that submits tasks.

use std::time::{Duration, SystemTime};

use clap::Args;
use poold::id::{FunctionName, PoolName};
use poold::limits::RETRIES_MAX;
use poold::task::{Attachment, Deadline, TaskSpec};

/// How tasks are to be run.
#[derive(Debug, Args)]
pub(crate) struct Submission {
    /// The pool to run in, instead of the first that has the function
    #[arg(long)]
    pool: Option<PoolName>,
    /// Larger goes first, -32768 to 32767
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_name = "N")]
    pub(crate) priority: i16,
    /// Most time for each attempt, from its start: 500ms, 2m
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Most time for all, waiting and retries included: 5m, or until 2030-01-31T12:00:00Z
    #[arg(long, value_name = "DURATION|INSTANT", value_parser = parse_deadline)]
    deadline: Option<Deadline>,
    /// Try again so often after a crash, a timeout or a loss
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=i64::from(RETRIES_MAX)))]
    retries: u32,
    /// Wait so long before it is queued: 10s
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    delay: Option<Duration>,
    /// Print the task's id and do not wait; it goes on, and `poolctl wait ID` has its result
    #[arg(long)]
    pub(crate) detach: bool,
}

impl Submission {
    /// The task of `function` that these options describe.
    pub(crate) fn task(&self, function: FunctionName) -> TaskSpec {
        TaskSpec {
            function,
            pool: self.pool.clone(),
            priority: self.priority,
            timeout: self.timeout,
            deadline: self.deadline,
            retries: self.retries,
            delay: self.delay,
            attachment: if self.detach { Attachment::Detached } else { Attachment::Attached },
            report_start: false,
        }
    }
}

/// A duration: numbers, each with its unit.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "not a duration; write one with its units, such as 500ms, 2m or 1h 30m".to_owned())
}

/// A duration, or an instant as RFC 3339 has it.
fn parse_deadline(text: &str) -> Result<Deadline, String> {
    if let Ok(duration) = humantime::parse_duration(text) {
        return Ok(Deadline::After(duration));
    }
    parse_instant(text).map(Deadline::At).ok_or_else(|| {
        "neither a duration such as 5m nor an instant such as 2030-01-31T12:00:00Z or 2030-01-31T14:00:00+02:00"
            .to_owned()
    })
}

/// The instant that `text` names (RFC 3339, section 5.6), since the Unix epoch.
fn parse_instant(text: &str) -> Option<Duration> {
    if text.as_bytes().get(10) != Some(&b'T') || !text.is_ascii() {
        return None;
    }
    if let Some(utc) = text.strip_suffix('Z') {
        return since_epoch(utc);
    }
    let (local, offset) = text.split_at_checked(text.len().checked_sub("+00:00".len())?)?;
    let (hours, minutes) = offset[1..].split_once(':')?;
    let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let offset_duration = Duration::from_secs((hours * 60 + minutes) * 60);
    match offset.as_bytes()[0] {
        b'+' => since_epoch(local)?.checked_sub(offset_duration),
        b'-' => since_epoch(local)?.checked_add(offset_duration),
        _ => None,
    }
}

fn since_epoch(utc: &str) -> Option<Duration> {
    let instant = humantime::parse_rfc3339(&format!("{utc}Z")).ok()?;
    instant.duration_since(SystemTime::UNIX_EPOCH).ok()
}

fn two_digits(text: &str) -> Option<u64> {
    if text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_without_its_unit_is_refused_with_how_to_write_it() {
        assert_eq!(parse_duration("1m 30s"), Ok(Duration::from_secs(90)));
        for text in ["", "5", "-5s", "soon"] {
            assert!(parse_duration(text).is_err_and(|error| error.contains("500ms, 2m or 1h 30m")), "{text}");
        }
    }

    #[test]
    fn deadline_duration_counts_from_submission() {
        assert_eq!(parse_deadline("1m 30s"), Ok(Deadline::After(Duration::from_secs(90))));
    }

    #[test]
    fn deadline_instant_is_the_same_in_every_offset() {
        let instant = Deadline::At(Duration::from_secs(1_000_000_000));
        for text in [
            "2001-09-09T01:46:40Z",
            "2001-09-09T01:46:40.000Z",
            "2001-09-09T03:46:40+02:00",
            "2001-09-08T20:16:40-05:30",
        ] {
            assert_eq!(parse_deadline(text), Ok(instant), "{text}");
        }
    }

    #[test]
    fn deadline_anything_else_is_refused() {
        for text in [
            "",
            "5",
            "tomorrow",
            "2001-09-09",
            "2001-09-09T01:46:40",
            "2001-09-09T01:46:40+2:00",
            "2001-09-09T01:46:40+99:00",
            "2001-09-09T01:46:40+00:00Z",
            "2001-09-09é01:46:40+00:00",
        ] {
            assert!(parse_deadline(text).is_err(), "{text}");
        }
    }
}
