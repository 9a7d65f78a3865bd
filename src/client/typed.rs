//! Calls of functions whose types both sides know.

use serde::{Serialize, de::DeserializeOwned};

use super::call_error::{CallError, Cause};
use super::executor::Executor;
use super::future::Future;
use super::values;
use crate::function::Function;
use crate::task::{Encoding, Payload};
use crate::wire;

impl Executor {
    /// Has a worker run `function`, and does not wait for it. As [`submit`](Self::submit), with types that
    /// the compiler checks; arguments and result travel as `bincode`.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use poold::{Executor, Function};
    /// const AREA: Function<(f64, f64), f64> = Function::new("area");
    ///
    /// let executor = Executor::connect()?;
    /// let area: f64 = executor.call(AREA, (3.0, 4.0))?.result(None)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Other arguments do not compile:
    ///
    /// ```compile_fail,E0308
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use poold::{Executor, Function};
    /// # const AREA: Function<(f64, f64), f64> = Function::new("area");
    /// # let executor = Executor::connect()?;
    /// executor.call(AREA, ("three", 4.0))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn call<In: Serialize, Out: DeserializeOwned + 'static>(
        &self,
        function: Function<In, Out>,
        input: In,
    ) -> Result<Future<Out>, CallError> {
        let template = self.template(function.name())?;
        let bytes = wire::encode_value(&input).map_err(|error| {
            CallError::new(template.function(), None, Cause::BadArguments(error.to_string()))
        })?;
        let args = Payload::new(Encoding::Bincode, bytes);
        self.submit_encoded(&template, &args, values::result)
    }
}
