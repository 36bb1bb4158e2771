//! One thing that was looked at, and how it stands: what `doctor` prints and what `install` decides by.

use serde::Serialize;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Could not be looked at, or does not matter here.
    Skip,
    /// Works, but should be known.
    Warn,
    /// Keeps routing from working.
    Fail,
}

/// The outcome of one check (CONTRACT section 2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// `group.name`.
    pub id: &'static str,
    /// How it came out.
    pub status: Status,
    /// What was looked at, in a few words.
    pub title: &'static str,
    /// What was found, with path, port or value.
    pub detail: String,
    /// What to do, where something is to be done.
    pub fix: Option<String>,
}

impl Check {
    const fn new(id: &'static str, title: &'static str, status: Status, detail: String) -> Self {
        Self {
            id,
            status,
            title,
            detail,
            fix: None,
        }
    }

    /// All is well.
    pub fn ok(id: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self::new(id, title, Status::Ok, detail.into())
    }

    /// Not looked at, for this reason.
    pub fn skip(id: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self::new(id, title, Status::Skip, detail.into())
    }

    /// Works, but should be known; `fix` says what to do about it.
    pub fn warn(id: &'static str, title: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(id, title, Status::Warn, detail.into()).with_fix(fix)
    }

    /// Keeps routing from working; `fix` mends it.
    pub fn fail(id: &'static str, title: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(id, title, Status::Fail, detail.into()).with_fix(fix)
    }

    fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// The command that mends whatever `install` manages.
pub(super) const REINSTALL: &str = "run `gem-setup doctor --fix`";
