//! The requirements of a runtime on each target: data that exists on every host.
//!
//! ```
//! use gem_platform::recipe::{Effect, Recipe};
//!
//! let macos = Recipe::of("macos-arm64".parse()?);
//! assert!(macos.has(Effect::StripQuarantine));
//! # Ok::<(), gem_platform::ParseTargetError>(())
//! ```

use crate::probe::{OPENGL, VULKAN_LOADER};
use crate::{Os, Target};

/// A change to the runtime's file after it has been placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Make the file executable.
    ExecutableBit,
    /// Remove the mark that makes Gatekeeper refuse a downloaded program.
    StripQuarantine,
}

/// The runtime's requirements on one target. The catalog names its companion files and pins them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// System libraries that the runtime loads when it starts.
    pub libraries: &'static [&'static str],
    /// Changes to the runtime's file, in order.
    pub effects: &'static [Effect],
}

impl Recipe {
    /// The recipe of `target` (docs/facts.md section 2).
    #[must_use]
    pub const fn of(target: Target) -> Self {
        match target.os {
            Os::Linux => Self {
                libraries: &[VULKAN_LOADER, OPENGL],
                effects: &[Effect::ExecutableBit],
            },
            Os::Macos => Self {
                libraries: &[],
                effects: &[Effect::ExecutableBit, Effect::StripQuarantine],
            },
            // On Windows the file's name decides whether it may be executed.
            Os::Windows => Self {
                libraries: &[],
                effects: &[],
            },
        }
    }

    /// Whether the recipe contains `effect`.
    #[must_use]
    pub fn has(&self, effect: Effect) -> bool {
        self.effects.contains(&effect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_system_asks_for_its_own() {
        for target in Target::ALL {
            let recipe = Recipe::of(target);
            assert_eq!(recipe.has(Effect::ExecutableBit), target.os != Os::Windows, "{target}");
            assert_eq!(recipe.has(Effect::StripQuarantine), target.os == Os::Macos, "{target}");
            assert_eq!(recipe.libraries.is_empty(), target.os != Os::Linux, "{target}");
        }
    }
}
