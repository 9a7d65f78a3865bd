//! What all calls of one function have in common that are made with the same options: checked and encoded
//! once, however many there are.

use std::sync::{Arc, Mutex};

use super::call_error::{CallError, Cause};
use super::until::lock;
use crate::id::FunctionName;
use crate::task::{Attachment, SharedSpec, TaskSpec};
use crate::wire::EncodedSpec;

/// Functions that a handle remembers: more than most programs call.
const TEMPLATES_MAX: usize = 16;

/// The function and the options of some calls.
#[derive(Debug)]
pub(super) struct Template {
    spec: SharedSpec,
    encoded: EncodedSpec,
}

impl Template {
    /// For calls with `spec`.
    ///
    /// # Errors
    /// [`BadArguments`](super::CallErrorKind::BadArguments) when it cannot be encoded, which none is.
    pub(super) fn new(spec: TaskSpec) -> Result<Self, CallError> {
        let spec = Arc::new(spec);
        match EncodedSpec::new(&spec) {
            Ok(encoded) => Ok(Template { spec, encoded }),
            Err(error) => Err(CallError::new(&spec.function, None, Cause::BadArguments(error.to_string()))),
        }
    }

    pub(super) fn function(&self) -> &FunctionName {
        &self.spec.function
    }

    pub(super) fn spec(&self) -> &SharedSpec {
        &self.spec
    }

    /// Whether calls of it wait for nothing but a worker, and for as long as that takes.
    pub(super) fn waits_for_nothing(&self) -> bool {
        let TaskSpec { deadline, delay, attachment, .. } = &*self.spec;
        deadline.is_none() && delay.is_none() && *attachment == Attachment::Attached
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

#[cfg(test)]
mod tests {
    use super::*;

    fn template(templates: &Templates, function: &str) -> Arc<Template> {
        templates.of(function, TaskSpec::new).expect("it is a name")
    }

    #[test]
    fn template_of_a_known_function_is_not_made_again() {
        let templates = Templates::default();
        let first = template(&templates, "is_prime");
        assert!(!Arc::ptr_eq(&first, &template(&templates, "sleep")));
        assert!(Arc::ptr_eq(&first, &template(&templates, "is_prime")));
        assert_eq!(first.function().as_str(), "is_prime");
    }

    #[test]
    fn templates_of_many_functions_are_forgotten_oldest_first() {
        let templates = Templates::default();
        let made: Vec<_> = (0..=TEMPLATES_MAX).map(|n| template(&templates, &format!("f{n}"))).collect();
        assert_eq!(lock(&templates.0).len(), TEMPLATES_MAX);
        assert!(Arc::ptr_eq(&made[TEMPLATES_MAX], &template(&templates, &format!("f{TEMPLATES_MAX}"))));
        assert!(!Arc::ptr_eq(&made[0], &template(&templates, "f0")));
    }

    #[test]
    fn template_of_a_wrong_name_is_refused_and_not_remembered() {
        let templates = Templates::default();
        assert!(templates.of("is prime", TaskSpec::new).is_err());
        assert!(lock(&templates.0).is_empty());
    }
}
