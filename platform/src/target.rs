//! Operating system and processor as values, so that every host can plan for every target.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An operating system that gem-setup supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Os {
    /// Any Linux distribution.
    Linux,
    /// macOS 11 or newer.
    Macos,
    /// Windows 10 or newer.
    Windows,
}

impl Os {
    /// The system for which this program was built. It builds for no other than the three.
    pub const HOST: Self = if cfg!(windows) {
        Self::Windows
    } else if cfg!(target_os = "macos") {
        Self::Macos
    } else {
        Self::Linux
    };
}

/// A processor architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm.
    Arm64,
}

/// Operating system and architecture, written `linux-x86_64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Target {
    /// The operating system.
    pub os: Os,
    /// The processor architecture.
    pub arch: Arch,
}

impl Target {
    /// Every target that can be named.
    pub const ALL: [Self; 6] = [
        Self::new(Os::Linux, Arch::X86_64),
        Self::new(Os::Linux, Arch::Arm64),
        Self::new(Os::Macos, Arch::X86_64),
        Self::new(Os::Macos, Arch::Arm64),
        Self::new(Os::Windows, Arch::X86_64),
        Self::new(Os::Windows, Arch::Arm64),
    ];

    /// The target made of `os` and `arch`.
    #[must_use]
    pub const fn new(os: Os, arch: Arch) -> Self {
        Self { os, arch }
    }

    /// The target for which this program was built; `None` if [`Target::ALL`] does not contain it.
    #[must_use]
    pub fn host() -> Option<Self> {
        let arch = match std::env::consts::ARCH {
            "x86_64" => Arch::X86_64,
            "aarch64" => Arch::Arm64,
            _ => return None,
        };
        Some(Self::new(Os::HOST, arch))
    }
}

impl fmt::Display for Os {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Linux => "linux",
            Self::Macos => "macos",
            Self::Windows => "windows",
        })
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "arm64",
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.os, self.arch)
    }
}

/// A text that is not the name of a target.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a target: expected linux, macos or windows, a hyphen, then x86_64 or arm64")]
pub struct ParseTargetError(String);

impl FromStr for Target {
    type Err = ParseTargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|target| target.to_string() == text)
            .ok_or_else(|| ParseTargetError(text.to_owned()))
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

impl TryFrom<String> for Target {
    type Error = ParseTargetError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_parses_back_from_its_name() {
        for target in Target::ALL {
            assert_eq!(target.to_string().parse(), Ok(target));
        }
    }

    #[test]
    fn an_unknown_target_is_named_in_the_error() {
        let error = "plan9-x86_64".parse::<Target>().unwrap_err();
        assert!(error.to_string().contains("`plan9-x86_64`"));
    }
}
