//! A check and its result: the lines of `doctor`, and the basis of `install`'s verdict.

use std::fmt;

use serde::{Serialize, Serializer};

use super::step_id::StepId;

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

/// The outcome of one check (docs/contract.md section 2).
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
    /// The remedy, if one is needed.
    pub fix: Option<Fix>,
    /// The step of `install` that the check belongs to.
    #[serde(skip)]
    pub step: Option<StepId>,
}

/// What to do about a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fix {
    /// A gem-setup command that works on this very machine; afterwards the check passes.
    Command(Command),
    /// Something that only a person can do or decide, in words.
    ByHand(String),
}

/// A gem-setup command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its arguments, as a shell takes them.
    pub args: String,
    /// What a person can do instead, if anything.
    pub or: Option<String>,
}

/// The arguments of the command that repairs everything that `install` manages.
const REPAIR: &str = "doctor --fix";

impl Fix {
    /// Runs `gem-setup` with `args`.
    pub fn run(args: impl Into<String>) -> Self {
        Self::Command(Command {
            args: args.into(),
            or: None,
        })
    }

    /// Runs `gem-setup` with `args`, or does what `otherwise` says.
    pub fn run_or(args: impl Into<String>, otherwise: impl Into<String>) -> Self {
        Self::Command(Command {
            args: args.into(),
            or: Some(otherwise.into()),
        })
    }

    /// Repairs everything that `install` manages.
    pub fn repair() -> Self {
        Self::run(REPAIR)
    }

    /// As [`Self::repair`]; the model's terms are accepted on the way.
    pub fn repair_accepting() -> Self {
        Self::run(format!("{REPAIR} --accept-terms"))
    }

    /// Only a person can.
    pub fn by_hand(what: impl Into<String>) -> Self {
        Self::ByHand(what.into())
    }

    /// The arguments of the command, if it is one.
    #[must_use]
    pub fn args(&self) -> Option<&str> {
        match self {
            Self::Command(command) => Some(&command.args),
            Self::ByHand(_) => None,
        }
    }

    /// Whether this is [`Self::repair`], with or without terms.
    pub(super) fn is_repair(&self) -> bool {
        self.args().is_some_and(|args| args.starts_with(REPAIR))
    }
}

impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(Command { args, or: None }) => write!(f, "run `gem-setup {args}`"),
            Self::Command(Command { args, or: Some(or) }) => write!(f, "run `gem-setup {args}`, or {or}"),
            Self::ByHand(what) => f.write_str(what),
        }
    }
}

impl Serialize for Fix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Check {
    const fn new(id: &'static str, title: &'static str, status: Status, detail: String) -> Self {
        Self {
            id,
            status,
            title,
            detail,
            fix: None,
            step: None,
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
    pub fn warn(id: &'static str, title: &'static str, detail: impl Into<String>, fix: Fix) -> Self {
        Self::new(id, title, Status::Warn, detail.into()).with_fix(fix)
    }

    /// Keeps routing from working; `fix` says what to do about it.
    pub fn fail(id: &'static str, title: &'static str, detail: impl Into<String>, fix: Fix) -> Self {
        Self::new(id, title, Status::Fail, detail.into()).with_fix(fix)
    }

    fn with_fix(mut self, fix: Fix) -> Self {
        self.fix = Some(fix);
        self
    }

    /// Whether the check keeps routing from working.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.status == Status::Fail
    }
}
