//! The platforms of a bundle, and the content for each.

use gem_platform::Target;
use serde::{Deserialize, Serialize};

use super::contents::Sums;
use super::programs;
use crate::runtime::RuntimeName;

/// A platform of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundledTarget {
    /// The platform.
    pub target: Target,
    /// The bundle's runtime for this platform.
    pub runtime: RuntimeName,
    /// The path of gem-setup's executable in the bundle, if it contains one.
    #[serde(default)]
    pub program: Option<String>,
}

/// The file of a bundle that lists its platforms.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Targets {
    format: u32,
    pub(super) targets: Vec<BundledTarget>,
}

impl Targets {
    const FORMAT: u32 = 1;

    /// The content of a bundle with the files `sums` for each of `runtimes`.
    pub(super) fn new(runtimes: &[(Target, RuntimeName)], sums: &Sums) -> Self {
        let targets = runtimes.iter().map(|(target, runtime)| BundledTarget {
            target: *target,
            runtime: *runtime,
            program: Some(programs::inside(*target)).filter(|path| sums.holds(path)),
        });
        Self {
            format: Self::FORMAT,
            targets: targets.collect(),
        }
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// Parses the list of platforms. The error says why it is not one.
    pub(super) fn parse(text: &str) -> Result<Vec<BundledTarget>, String> {
        let parsed: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if parsed.format == Self::FORMAT {
            Ok(parsed.targets)
        } else {
            Err(format!("the format {} is unknown", parsed.format))
        }
    }
}
