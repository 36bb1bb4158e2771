//! The platforms of a bundle: what each of them gets.

use gem_platform::Target;
use serde::{Deserialize, Serialize};

use super::contents::Sums;
use super::programs;
use crate::runtime::RuntimeName;

/// One platform of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundledTarget {
    /// The platform.
    pub target: Target,
    /// The runtime that the bundle has for it.
    pub runtime: RuntimeName,
    /// Where gem-setup itself is in the bundle, if it is.
    #[serde(default)]
    pub program: Option<String>,
}

/// The file of a bundle that lists them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Targets {
    format: u32,
    pub(super) targets: Vec<BundledTarget>,
}

impl Targets {
    const FORMAT: u32 = 1;

    /// What the bundle with the files `sums` has for `runtimes`.
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

    /// Reads the list. The error says why it is none.
    pub(super) fn parse(text: &str) -> Result<Vec<BundledTarget>, String> {
        let parsed: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if parsed.format == Self::FORMAT {
            Ok(parsed.targets)
        } else {
            Err(format!("the format {} is unknown", parsed.format))
        }
    }
}
