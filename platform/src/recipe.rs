//! What a target needs before the runtime runs there: data, for every target on every host.

use std::fmt;

use crate::probe::{DIRECTX_COMPILER, OPENGL, VULKAN_LOADER};
use crate::service::Kind as ServiceKind;
use crate::{Arch, Os, Target};

/// One thing that is done to a machine, or must be true of it, for the runtime to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The runtime's file gets permission to be executed.
    ExecutableBit,
    /// The mark that makes Gatekeeper refuse a downloaded program is taken off.
    StripQuarantine,
    /// The companion's files are put beside the runtime.
    PlaceCompanions,
    /// The libraries must be loadable; nothing is installed, the package is named.
    RequireLibraries,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ExecutableBit => "make the runtime executable",
            Self::StripQuarantine => "remove the quarantine attribute `com.apple.quarantine` from the runtime",
            Self::PlaceCompanions => "put the companion files beside the runtime",
            Self::RequireLibraries => "check that the graphics libraries can be loaded",
        })
    }
}

/// A third party's files that must lie beside the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Companion {
    /// The name that the catalog has it under.
    pub name: &'static str,
    /// The files.
    pub files: &'static [&'static str],
}

/// What the runtime needs on one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// The target this is for.
    pub target: Target,
    /// What the name of a program ends in.
    pub executable_suffix: &'static str,
    /// What must lie beside the runtime.
    pub companions: &'static [Companion],
    /// Libraries of the system that the runtime loads when it starts.
    pub libraries: &'static [&'static str],
    /// What is done or checked, in this order.
    pub effects: &'static [Effect],
    /// Which program starts the server at login.
    pub service: ServiceKind,
    /// What a person should know beforehand.
    pub notes: &'static [&'static str],
}

impl Recipe {
    /// The recipe of `target` (FACTS section 2).
    #[must_use]
    pub const fn of(target: Target) -> Self {
        match target.os {
            Os::Linux => Self {
                target,
                executable_suffix: "",
                companions: &[],
                libraries: &[VULKAN_LOADER, OPENGL],
                effects: &[Effect::ExecutableBit, Effect::RequireLibraries],
                service: ServiceKind::Systemd,
                notes: &["the runtime loads the Vulkan loader even when it computes on the processor"],
            },
            Os::Macos => Self {
                target,
                executable_suffix: "",
                companions: &[],
                libraries: &[],
                effects: &[Effect::ExecutableBit, Effect::StripQuarantine],
                service: ServiceKind::Launchd,
                notes: match target.arch {
                    Arch::Arm64 => {
                        &["if macOS still refuses the runtime, allow it in System Settings, Privacy & Security"]
                    }
                    Arch::X86_64 => &["Apple's graphics are used through Metal on Apple silicon only"],
                },
            },
            Os::Windows => Self {
                target,
                executable_suffix: ".exe",
                companions: &[Companion {
                    name: "dxc",
                    files: &DIRECTX_COMPILER,
                }],
                libraries: &[],
                effects: &[Effect::PlaceCompanions],
                service: ServiceKind::TaskScheduler,
                notes: &[
                    "SmartScreen may stop the unsigned runtime when it is first run: choose More info, Run anyway",
                ],
            },
        }
    }

    /// Whether `effect` is part of the recipe.
    #[must_use]
    pub fn has(&self, effect: Effect) -> bool {
        self.effects.contains(&effect)
    }

    /// `name` as a program is called there.
    #[must_use]
    pub fn executable(&self, name: &str) -> String {
        format!("{name}{}", self.executable_suffix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(target: &str) -> Recipe {
        Recipe::of(target.parse().unwrap())
    }

    #[test]
    fn every_target_has_a_recipe_of_its_own_system() {
        for target in Target::ALL {
            let recipe = Recipe::of(target);
            assert_eq!(recipe.target, target);
            assert_eq!(recipe.service, ServiceKind::of(target.os));
            assert!(!recipe.effects.is_empty() && !recipe.notes.is_empty(), "{target}");
        }
    }

    #[test]
    fn windows_needs_the_shader_compiler_and_no_permission_bit() {
        let windows = recipe("windows-x86_64");
        assert_eq!(windows.executable("lit"), "lit.exe");
        assert_eq!(windows.companions[0].name, "dxc");
        assert_eq!(windows.companions[0].files, ["dxil.dll", "dxcompiler.dll"]);
        assert!(windows.has(Effect::PlaceCompanions) && !windows.has(Effect::ExecutableBit));
    }

    #[test]
    fn macos_takes_the_quarantine_off_and_linux_loads_vulkan() {
        assert!(recipe("macos-arm64").has(Effect::StripQuarantine));
        assert!(!recipe("linux-x86_64").has(Effect::StripQuarantine));
        assert_eq!(recipe("linux-arm64").libraries, ["libvulkan.so.1", "libGL.so.1"]);
        assert_eq!(recipe("linux-arm64").executable("lit"), "lit");
    }

    #[test]
    fn a_recipe_that_places_or_requires_something_names_it() {
        for recipe in Target::ALL.map(Recipe::of) {
            assert_eq!(recipe.has(Effect::PlaceCompanions), !recipe.companions.is_empty());
            assert_eq!(recipe.has(Effect::RequireLibraries), !recipe.libraries.is_empty());
        }
    }
}
