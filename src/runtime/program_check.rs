//! Checks a runtime's executable right before it runs.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::error::Failure;

type Look = dyn Fn(&Path) -> Result<(), Failure> + Send + Sync;

/// Decides whether an executable may run, each time before an engine starts. The default allows everything.
#[derive(Clone, Default)]
pub struct ProgramCheck(Option<Arc<Look>>);

impl ProgramCheck {
    /// A check by `look`, which may read the file.
    pub fn new(look: impl Fn(&Path) -> Result<(), Failure> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(look)))
    }

    /// Checks the executable `program`; blocks while the file is read.
    ///
    /// # Errors
    /// The reason why it must not run.
    pub fn run(&self, program: &Path) -> Result<(), Failure> {
        self.0.as_ref().map_or(Ok(()), |look| look(program))
    }
}

impl fmt::Debug for ProgramCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProgramCheck").field(&self.0.is_some()).finish()
    }
}
