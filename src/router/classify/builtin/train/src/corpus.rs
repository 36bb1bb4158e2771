//! The labelled requests.

use std::path::{Path, PathBuf};

use gem_setup::router::classify::builtin::features::Features;
use gem_setup::router::{Tier, Turn};
use serde::Deserialize;

/// How many parts cross-validation splits the rows into.
pub(crate) const FOLDS: u64 = 5;

/// Why labelled requests could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file cannot be read.
    #[error("reading `{}`", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// A line is not a labelled request.
    #[error("line {line} of `{}` is not a labelled request", path.display())]
    Row {
        path: PathBuf,
        line: usize,
        source: serde_json::Error,
    },
}

/// A row of the file.
#[derive(Deserialize)]
struct Row {
    request: String,
    history: Vec<Turn>,
    label: Tier,
    #[serde(default)]
    rule: usize,
    #[serde(default)]
    lang: String,
}

/// A labelled request as the trainer uses it.
pub(crate) struct Sample {
    pub(crate) features: Features,
    pub(crate) request: String,
    pub(crate) pro: bool,
    /// The rule of the rubric that makes it complex, 1 to 4; 0 for none.
    pub(crate) rule: usize,
    pub(crate) english: bool,
    pub(crate) follows: bool,
    /// Which part it belongs to; rows with the same request belong to the same.
    pub(crate) fold: u64,
}

/// Reads a file of labelled requests, one JSON object per line.
pub(crate) fn load(path: &Path) -> Result<Vec<Sample>, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(at, line)| match serde_json::from_str(line) {
            Ok(row) => Ok(Sample::of(row)),
            Err(source) => Err(Error::Row {
                path: path.to_owned(),
                line: at + 1,
                source,
            }),
        })
        .collect()
}

impl Sample {
    fn of(row: Row) -> Self {
        Self {
            features: Features::of(&row.request, &row.history),
            pro: row.label == Tier::Pro,
            rule: row.rule,
            english: row.lang == "en",
            follows: !row.history.is_empty(),
            fold: (fnv(&row.request) >> 17) % FOLDS,
            request: row.request,
        }
    }
}

/// FNV-1a, 64 bits.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
