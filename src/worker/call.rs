//! Calling a function so that a panic in it is a value.
//!
//! The panic hook is the one place that knows where a panic happened. It tells the caller through a
//! variable of the thread, and prints nothing: the report carries both message and place. Panics outside
//! of a call, in threads that a function starts, say, are printed as ever.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use crate::task::{Failure, FailureKind};

/// What this thread is doing, as far as panics are concerned.
#[derive(Clone, Copy)]
enum Watch {
    /// No call.
    Off,
    /// A call that has not panicked.
    Calling,
    /// A call that panicked at [`LOCATION`].
    Panicked,
}

thread_local! {
    static WATCH: Cell<Watch> = const { Cell::new(Watch::Off) };

    /// Where a call panicked, until it is caught.
    static LOCATION: Cell<Option<String>> = const { Cell::new(None) };
}

/// Calls `function`; a panic in it becomes a failure.
pub(super) fn catching_panics<T>(function: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    static HOOK: Once = Once::new();
    HOOK.call_once(install_hook);
    WATCH.set(Watch::Calling);
    // What a function leaves half done at a panic is its own: nothing of ours is shared with it.
    let result = panic::catch_unwind(AssertUnwindSafe(function));
    let watch = WATCH.replace(Watch::Off);
    result.unwrap_or_else(|panic| {
        let location = match watch {
            Watch::Panicked => LOCATION.take(),
            Watch::Off | Watch::Calling => None,
        };
        Err(Failure { kind: FailureKind::Panic, message: message_of(panic), location })
    })
}

/// From now on the first panic in a call is noted, and every other one goes where it went before.
fn install_hook() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| match WATCH.get() {
        Watch::Calling => {
            WATCH.set(Watch::Panicked);
            LOCATION.set(info.location().map(ToString::to_string));
        }
        // A second panic during the first one's unwinding aborts the process: the log must say why.
        Watch::Panicked | Watch::Off => print(info),
    }));
}

fn message_of(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => match panic.downcast::<&'static str>() {
            Ok(message) => (*message).to_owned(),
            Err(_) => "a panic without a message".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure_of(function: impl FnOnce()) -> Failure {
        catching_panics(|| {
            function();
            Ok(())
        })
        .unwrap_err()
    }

    #[test]
    fn panic_is_caught_with_message_and_location() {
        let line = line!() + 1;
        let failure = failure_of(|| panic!("broken: {}", 7));
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Panic, "broken: 7"));
        let location = failure.location.unwrap();
        assert!(location.starts_with(&format!("{}:{line}:", file!())), "{location}");
    }

    #[test]
    fn panic_of_another_type_has_no_message() {
        let failure = failure_of(|| panic::panic_any(7));
        assert_eq!(failure.message, "a panic without a message");
        assert!(failure.location.is_some());
    }

    #[test]
    fn panic_resumed_from_a_thread_has_no_location_of_an_earlier_one() {
        failure_of(|| panic!("earlier"));
        let failure = failure_of(|| panic::resume_unwind(Box::new("resumed")));
        assert_eq!((failure.message.as_str(), failure.location), ("resumed", None));
    }

    #[test]
    fn function_without_a_panic_gives_its_result() {
        assert_eq!(catching_panics(|| Ok(7)), Ok(7));
    }
}
