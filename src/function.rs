//! A function's name with the types that it takes and returns: what a program says once, for the side
//! that runs the function and for the side that calls it.

use std::fmt;
use std::marker::PhantomData;

use crate::limits::FUNCTION_NAME_BYTES_MAX;

/// A function from `In` to `Out` that workers have under a name.
///
/// The same constant registers the function and calls it, so that the compiler checks both. `In` says
/// how many arguments there are on a command line: a tuple of n stands for n, every other type for one,
/// `Vec` for any number, `()` for none.
///
/// ```
/// use poold::Function;
/// use poold::worker::Registry;
///
/// const AREA: Function<(f64, f64), f64> = Function::new("area");
///
/// fn functions() -> Registry {
///     Registry::new().add(AREA, &["WIDTH", "HEIGHT"], "The area of a rectangle.", |(width, height)| width * height)
/// }
/// # functions().finish(false)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// What is registered must be such a function:
///
/// ```compile_fail,E0308
/// # use poold::Function;
/// # use poold::worker::Registry;
/// const AREA: Function<(f64, f64), f64> = Function::new("area");
/// Registry::new().add(AREA, &["WIDTH", "HEIGHT"], "The area of a rectangle.", |text: String| 0.0);
/// ```
///
/// and its name must be one, which in a constant is found out by the compiler:
///
/// ```compile_fail,E0080
/// # use poold::Function;
/// const AREA: Function<(f64, f64), f64> = Function::new("the area");
/// # AREA.name();
/// ```
pub struct Function<In, Out> {
    name: &'static str,
    types: PhantomData<fn(In) -> Out>,
}

impl<In, Out> Function<In, Out> {
    /// The function that workers have under `name`.
    ///
    /// # Panics
    /// When `name` is no function name: 1 to 128 characters out of `A-Z a-z 0-9 _ - . : /`.
    pub const fn new(name: &'static str) -> Self {
        assert!(
            is_function_name(name),
            "a function name takes 1 to 128 characters out of A-Z a-z 0-9 _ - . : /"
        );
        Function { name, types: PhantomData }
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

/// As [`FunctionName::new`](crate::id::FunctionName::new) has it, for the compiler.
const fn is_function_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let mut index = 0;
    while index < bytes.len() {
        if !(bytes[index].is_ascii_alphanumeric() || matches!(bytes[index], b'_' | b'-' | b'.' | b':' | b'/'))
        {
            return false;
        }
        index += 1;
    }
    !bytes.is_empty() && bytes.len() <= FUNCTION_NAME_BYTES_MAX
}

impl<In, Out> Clone for Function<In, Out> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<In, Out> Copy for Function<In, Out> {}

impl<In, Out> fmt::Debug for Function<In, Out> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Function").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::FunctionName;

    #[test]
    fn names_are_those_that_function_name_takes() {
        let long = "x".repeat(FUNCTION_NAME_BYTES_MAX);
        let characters = (0..=255).map(|code: u8| char::from(code).to_string());
        for name in characters.chain([String::new(), long.clone(), long + "x"]) {
            assert_eq!(is_function_name(&name), FunctionName::new(&name).is_ok(), "{name:?}");
        }
    }
}
