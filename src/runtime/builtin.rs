//! The runtime inside gem-setup: the built-in classifier replaces the model.

use std::path::Path;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{CommandLine, Error, NO_MODEL, Runtime, RuntimeName, listing};
use crate::catalog::Model;
use crate::progress::Progress;

/// The built-in classifier as a runtime. It serves classification requests to `model` and needs no other program.
#[derive(Clone, Debug)]
pub struct Builtin {
    model: String,
}

impl Builtin {
    /// The built-in runtime, which answers under the name `model`.
    pub fn new(model: impl Into<String>) -> Self {
        Self { model: model.into() }
    }
}

impl Runtime for Builtin {
    fn name(&self) -> RuntimeName {
        RuntimeName::Builtin
    }

    fn program(&self) -> Option<&Path> {
        None
    }

    fn serve(&self) -> Option<CommandLine> {
        None
    }

    /// Gemini CLI looks for the name (docs/facts.md section 3).
    fn list(&self, _all: bool) -> BoxFuture<'_, Result<String, Error>> {
        let row = [self.model.clone(), format!("only a name: {NO_MODEL}")];
        async { Ok(listing(&[row])) }.boxed()
    }

    fn pull<'a>(
        &'a self,
        _model: &'a Model,
        _file: Option<&'a Path>,
        _progress: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<(), Error>> {
        let error = Error::Unsuitable {
            runtime: RuntimeName::Builtin,
            reason: "has no model".to_owned(),
        };
        async { Err(error) }.boxed()
    }
}
