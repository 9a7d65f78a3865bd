//! The first program of Python's documentation of `concurrent.futures.ProcessPoolExecutor`: which of these
//! numbers are prime?
//!
//! ```console
//! $ poold &
//! $ cargo run --example primes
//! 112272535095293 is prime: true
//! ```

use std::error::Error;

use poold::Executor;

const NUMBERS: [u64; 6] =
    [112272535095293, 112582705942171, 112272535095293, 115280095190773, 115797848077099, 1099726899285419];

fn main() -> Result<(), Box<dyn Error>> {
    let executor = Executor::connect()?;
    for (number, is_prime) in NUMBERS.iter().zip(executor.map::<bool, _>("is_prime_trial", NUMBERS)?) {
        println!("{number} is prime: {}", is_prime?);
    }
    Ok(())
}
