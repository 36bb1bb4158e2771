//! gem-setup's own executable, as a server runs it. A package manager may have replaced it since.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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

    /// What this program is instead of this gem-setup, in words: another version, or an executable that was replaced.
    pub(super) fn outdated(&self) -> Option<String> {
        if self.version != VERSION {
            return Some(format!("gem-setup {}, not {VERSION}", self.version));
        }
        let (started_from, now) = (self.stamp?, ProgramStamp::of(&self.path)?);
        let is_replaced = started_from.is_replaced_by(now);
        is_replaced.then(|| "a gem-setup whose executable has been replaced".to_owned())
    }
}
