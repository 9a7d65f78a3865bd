//! What all calls of one function have in common that are made with the same options: checked and encoded
//! once, however many there are.

use std::sync::{Arc, Mutex};

use super::call_error::{CallError, Cause};
use super::until::lock;
use crate::id::FunctionName;
use crate::task::TaskSpec;
use crate::wire::EncodedSpec;

/// Functions that a handle remembers: more than most programs call.
const TEMPLATES_MAX: usize = 16;

/// The function and the options of some calls.
#[derive(Debug)]
pub(super) struct Template {
    spec: TaskSpec,
    encoded: EncodedSpec,
}

impl Template {
    /// For calls with `spec`.
    ///
    /// # Errors
    /// [`BadArguments`](super::CallErrorKind::BadArguments) when it cannot be encoded, which none is.
    pub(super) fn new(spec: TaskSpec) -> Result<Self, CallError> {
        match EncodedSpec::new(&spec) {
            Ok(encoded) => Ok(Template { spec, encoded }),
            Err(error) => Err(CallError::new(&spec.function, None, Cause::BadArguments(error.to_string()))),
        }
    }

    pub(super) fn function(&self) -> &FunctionName {
        &self.spec.function
    }

    pub(super) fn spec(&self) -> &TaskSpec {
        &self.spec
    }

    pub(super) fn encoded(&self) -> &EncodedSpec {
        &self.encoded
    }
}

/// The templates of one set of options: of the functions that were called last.
#[derive(Debug, Default)]
pub(super) struct Templates(Mutex<Vec<Arc<Template>>>);

impl Templates {
    /// The template for calls of `function`, made by `spec` if it is not remembered.
    ///
    /// # Errors
    /// [`Refused`](super::CallErrorKind::Refused) when that is no name of a function.
    pub(super) fn of(
        &self,
        function: &str,
        spec: impl FnOnce(FunctionName) -> TaskSpec,
    ) -> Result<Arc<Template>, CallError> {
        let mut templates = lock(&self.0);
        if let Some(known) = templates.iter().find(|template| template.function().as_str() == function) {
            return Ok(Arc::clone(known));
        }
        let name = FunctionName::new(function)
            .map_err(|error| CallError::of_no_call(Cause::BadFunctionName(error)))?;
        let template = Arc::new(Template::new(spec(name))?);
        if templates.len() == TEMPLATES_MAX {
            templates.remove(0);
        }
        templates.push(Arc::clone(&template));
        Ok(template)
    }
}
