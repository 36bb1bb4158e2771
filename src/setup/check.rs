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
    /// The subject, in a few words.
    pub title: &'static str,
    /// The finding, with path, port or value.
    pub detail: String,
    /// The remedy, if one is needed.
    pub fix: Option<Fix>,
    /// The step of `install` that the check belongs to.
    #[serde(skip)]
    pub step: Option<StepId>,
}

/// Advice about a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fix {
    /// A gem-setup command that works on this very machine; afterwards the check passes.
    Command(Command),
    /// Something that only a person can do or decide, in words.
    ByHand(String),
    /// Nothing before another check is resolved, in words.
    Later(String),
}

/// A gem-setup command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its arguments, as a shell takes them.
    pub args: String,
    /// The person's task instead, if there is one.
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

    /// Runs `gem-setup` with `args`, or follows `otherwise`.
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
            Self::ByHand(_) | Self::Later(_) => None,
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
            Self::ByHand(what) | Self::Later(what) => f.write_str(what),
        }
    }
}

impl Serialize for Fix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The subject of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// `group.name`.
    pub id: &'static str,
    /// In a few words.
    pub title: &'static str,
}

impl Subject {
    /// The subject `id`, called `title`.
    #[must_use]
    pub const fn new(id: &'static str, title: &'static str) -> Self {
        Self { id, title }
    }

    /// All is well.
    pub fn ok(self, detail: impl Into<String>) -> Check {
        self.check(Status::Ok, detail.into(), None)
    }

    /// Not looked at, for this reason.
    pub fn skip(self, detail: impl Into<String>) -> Check {
        self.check(Status::Skip, detail.into(), None)
    }

    /// Works, but the user should know; `fix` has advice.
    pub fn warn(self, detail: impl Into<String>, fix: Fix) -> Check {
        self.check(Status::Warn, detail.into(), Some(fix))
    }

    /// Prevents routing; `fix` has advice.
    pub fn fail(self, detail: impl Into<String>, fix: Fix) -> Check {
        self.check(Status::Fail, detail.into(), Some(fix))
    }

    const fn check(self, status: Status, detail: String, fix: Option<Fix>) -> Check {
        let Self { id, title } = self;
        let step = None;
        Check {
            id,
            status,
            title,
            detail,
            fix,
            step,
        }
    }
}

impl Check {
    /// Whether the check keeps routing from working.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.status == Status::Fail
    }
}
