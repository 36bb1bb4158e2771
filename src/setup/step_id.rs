//! The names of the steps, their order, and the steps on which each depends.

use serde::Serialize;

use crate::text::words;

words! {
    /// The steps in their order (docs/contract.md section 2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
    pub enum StepId {
        /// A runtime exists for this platform.
        Platform = "platform",
        /// The disk has space.
        Space = "space",
        /// The runtime's executable.
        Runtime = "runtime",
        /// The files that the runtime needs in its directory.
        Companions = "companions",
        /// The model's terms.
        Terms = "terms",
        /// The model.
        Model = "model",
        /// Gemini CLI's settings.
        Settings = "settings",
        /// The server.
        Server = "server",
        /// The server answers.
        Smoke = "smoke",
    }
}

impl StepId {
    /// Whether a change of this step makes the last smoke test void.
    pub(super) const fn is_tested(self) -> bool {
        matches!(self, Self::Runtime | Self::Companions | Self::Model | Self::Server)
    }

    /// Whether `install --force` repeats this step although it is in place.
    pub(super) const fn can_repeat(self) -> bool {
        !matches!(self, Self::Platform | Self::Space | Self::Terms | Self::Settings)
    }

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
            Self::Server => &[
                Self::Platform,
                Self::Space,
                Self::Runtime,
                Self::Companions,
                Self::Model,
            ],
            Self::Smoke => &[Self::Server],
        }
    }
}
