//! Checks and their results: the lines of `doctor`, and the basis of `install`'s verdict.

use std::fmt;

use serde::{Serialize, Serializer};

use super::step_id::StepId;

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing is wrong.
    Ok,
    /// The check could not be done, or does not matter here.
    Skip,
    /// Works, but the user should know about it.
    Warn,
    /// Prevents routing from working.
    Fail,
}

/// A check with its result (docs/contract.md section 2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The check's identifier, in the form `group.name`.
    pub id: &'static str,
    /// The result.
    pub status: Status,
    /// The subject, in a few words.
    pub title: &'static str,
    /// The finding, with path, port or value.
    pub detail: String,
    /// The remedy, if one is needed.
    pub fix: Option<Fix>,
    /// The step of `install` to which the check belongs.
    #[serde(skip)]
    pub step: Option<StepId>,
}

/// Advice about a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fix {
    /// A gem-setup command that works on this machine and makes the check pass.
    Command(Command),
    /// A task that only a person can do or decide, in words.
    ByHand(String),
    /// Another check must be resolved first; says which.
    Later(String),
}

/// A gem-setup command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The arguments, quoted for a shell.
    pub args: String,
    /// What a person can do instead, if anything.
    pub or: Option<String>,
}

/// The arguments of the command that repairs everything under the control of `install`.
const REPAIR: &str = "doctor --fix";

/// How a failure's hint ends where the command would then succeed, or where it names `doctor`.
const AGAIN: [&str; 4] = [
    ", or run `gem-setup doctor`",
    ", then run the command again",
    "; then run the command again",
    " and run the command again",
];

impl Fix {
    /// Advice to run `gem-setup` with `args`.
    pub fn run(args: impl Into<String>) -> Self {
        Self::Command(Command {
            args: args.into(),
            or: None,
        })
    }

    /// Advice to run `gem-setup` with `args`, or to do `otherwise`.
    pub fn run_or(args: impl Into<String>, otherwise: impl Into<String>) -> Self {
        Self::Command(Command {
            args: args.into(),
            or: Some(otherwise.into()),
        })
    }

    /// Advice to repair everything under the control of `install`.
    pub fn repair() -> Self {
        Self::run(REPAIR)
    }

    /// Like [`Self::repair`], and accepts the model's terms.
    pub fn repair_accepting() -> Self {
        Self::run(format!("{REPAIR} --accept-terms"))
    }

    /// Advice that only a person can follow. The wish to repeat the command is left out: a check was not its aim.
    pub fn by_hand(what: impl Into<String>) -> Self {
        let what = what.into();
        let advice = AGAIN.iter().find_map(|again| what.strip_suffix(again));
        Self::ByHand(advice.map_or_else(|| what.clone(), str::to_owned))
    }

    /// The arguments of the command, if the advice is a command.
    #[must_use]
    pub fn args(&self) -> Option<&str> {
        match self {
            Self::Command(command) => Some(&command.args),
            Self::ByHand(_) | Self::Later(_) => None,
        }
    }

    /// Whether this is [`Self::repair`] or [`Self::repair_accepting`].
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
    /// The check's identifier, in the form `group.name`.
    pub id: &'static str,
    /// The subject, in a few words.
    pub title: &'static str,
}

impl Subject {
    /// The subject `id` with the title `title`.
    #[must_use]
    pub const fn new(id: &'static str, title: &'static str) -> Self {
        Self { id, title }
    }

    /// The check passed.
    pub fn ok(self, detail: impl Into<String>) -> Check {
        self.check(Status::Ok, detail.into(), None)
    }

    /// The check was not done, for the reason `detail`.
    pub fn skip(self, detail: impl Into<String>) -> Check {
        self.check(Status::Skip, detail.into(), None)
    }

    /// The check passed with a warning; `fix` is the advice.
    pub fn warn(self, detail: impl Into<String>, fix: Fix) -> Check {
        self.check(Status::Warn, detail.into(), Some(fix))
    }

    /// The check failed, which prevents routing; `fix` is the advice.
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
    /// Makes a failure a warning, where it does not prevent routing.
    pub(super) fn be_a_warning(&mut self) {
        if self.has_failed() {
            self.status = Status::Warn;
        }
    }

    /// Whether the check's failure prevents routing.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.status == Status::Fail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doctor_does_not_advise_itself() {
        let fix = Fix::by_hand("read the output with `gem-setup logs`, or run `gem-setup doctor`");
        assert_eq!(fix.to_string(), "read the output with `gem-setup logs`");
    }
}
