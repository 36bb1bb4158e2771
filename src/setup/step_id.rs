//! The names of the steps, their order, and what each needs first.

use std::fmt;

use serde::Serialize;

/// The steps in their order (docs/contract.md section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepId {
    /// A runtime exists for this platform.
    Platform,
    /// The disk has space.
    Space,
    /// The runtime's executable.
    Runtime,
    /// The files that it needs in its directory.
    Companions,
    /// The model's terms.
    Terms,
    /// The model.
    Model,
    /// Gemini CLI's settings.
    Settings,
    /// The server.
    Server,
    /// The server answers.
    Smoke,
}

impl StepId {
    /// Every step, in order.
    pub const ALL: [Self; 9] = [
        Self::Platform,
        Self::Space,
        Self::Runtime,
        Self::Companions,
        Self::Terms,
        Self::Model,
        Self::Settings,
        Self::Server,
        Self::Smoke,
    ];

    /// The steps that must be in place before this one can be applied.
    pub(super) const fn prerequisites(self) -> &'static [Self] {
        match self {
            Self::Platform | Self::Space | Self::Terms | Self::Settings => &[],
            Self::Runtime | Self::Companions => &[Self::Platform, Self::Space],
            Self::Model => &[
                Self::Platform,
                Self::Space,
                Self::Runtime,
                Self::Companions,
                Self::Terms,
            ],
            Self::Server => &[Self::Platform, Self::Runtime, Self::Companions, Self::Model],
            Self::Smoke => &[Self::Server],
        }
    }

    /// The id used in JSON and on screen.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Space => "space",
            Self::Runtime => "runtime",
            Self::Companions => "companions",
            Self::Terms => "terms",
            Self::Model => "model",
            Self::Settings => "settings",
            Self::Server => "server",
            Self::Smoke => "smoke",
        }
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
