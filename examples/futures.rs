//! What can be done with a future: wait for it, be told of its end, take several as they end, limit one in
//! time, cancel one that runs; and how an error says what went wrong.
//!
//! ```console
//! $ poold &
//! $ cargo run --example futures
//! ```

use std::error::Error;
use std::time::Duration;

use poold::ReturnWhen::FirstCompleted;
use poold::{Executor, as_completed, wait};

fn main() -> Result<(), Box<dyn Error>> {
    let executor = Executor::connect()?;

    // A wait that runs out ends nothing, and one can wait again.
    let nap = executor.submit::<()>("sleep", 0.2)?;
    nap.add_done_callback(|future| println!("{} is done: {}", future.function(), future.done()));
    let waited = nap.result(Duration::from_millis(1));
    println!("done after 1 ms: {}", !waited.is_err_and(|error| error.is_not_done()));
    nap.result(None)?;

    // Several, as they end.
    let futures = [7, 8, 9].map(|number| executor.submit::<bool>("is_prime", number));
    let futures = futures.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut primes = 0;
    for future in as_completed(futures, None) {
        primes += u32::from(future?.result(None)?);
    }
    println!("primes among 7, 8 and 9: {primes}");

    // The first of two; the other is cancelled while it runs, or before.
    let race = [executor.submit::<()>("sleep", 0.1)?, executor.submit("sleep", 3600)?];
    let waited = wait(race, None, FirstCompleted);
    for future in &waited.not_done {
        println!("cancelled: {}", future.cancel());
    }

    // A limit holds whatever the function does.
    let limited = executor.with_timeout(Duration::from_millis(100)).submit::<()>("sleep", 3600)?;
    println!("timed out: {}", limited.result(None).is_err_and(|error| error.is_timeout()));

    // What a function says when it fails.
    if let Some(error) = executor.submit::<()>("fail", "there is no such month")?.exception(None)? {
        println!("failed: {}", error.message().unwrap_or_default());
    }

    // An `async` block, by whatever runtime; none is needed to make one.
    let mersenne = async { executor.submit::<bool>("is_prime", 2_147_483_647)?.await };
    println!("2^31 - 1 is prime: {}", block_on(mersenne)?);

    // Dropping the executor waits for what is left, as `with` does in Python.
    Ok(())
}

/// The smallest runtime there is: one future, on this thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake, Waker};
    use std::thread::{self, Thread};

    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
