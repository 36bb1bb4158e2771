//! gem-setup's own executable, as a server runs it. A package manager may have replaced it since.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ServerRecord;
use crate::runtime::ProgramStamp;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The executable from which a server was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnProgram {
    version: String,
    path: PathBuf,
    stamp: Option<ProgramStamp>,
}

impl OwnProgram {
    /// The executable of this process.
    pub(super) fn of_this_process() -> Self {
        let path = std::env::current_exe().unwrap_or_default();
        Self {
            version: VERSION.to_owned(),
            stamp: ProgramStamp::of(&path),
            path,
        }
    }
}

impl ServerRecord {
    /// What the server runs instead of this gem-setup, in words: another version, or an executable that was replaced.
    #[must_use]
    pub fn outdated(&self) -> Option<String> {
        let Some(program) = &self.program else {
            return Some("an older gem-setup".to_owned());
        };
        if program.version != VERSION {
            return Some(format!("gem-setup {}, not {VERSION}", program.version));
        }
        let (started_from, now) = (program.stamp?, ProgramStamp::of(&program.path)?);
        let is_replaced = started_from.is_replaced_by(now);
        is_replaced.then(|| "a gem-setup whose executable has been replaced".to_owned())
    }
}
