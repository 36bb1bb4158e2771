//! The labelled requests, read from their texts or from the file of hashed features.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use gem_setup::router::classify::builtin::COUNTS;
use gem_setup::router::classify::builtin::features::{BLOCKS, Features};
use gem_setup::router::{Tier, Turn};
use serde::Deserialize;

/// The number of parts for cross-validation.
pub(crate) const FOLDS: u64 = 5;
/// The fewest groups that a feature must occur in; the habits of a single group do not generalise.
const FEWEST_GROUPS: usize = 4;

/// Why labelled requests could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file cannot be read.
    #[error("reading `{}`", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// The file cannot be written.
    #[error("writing `{}`", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    /// A line is not a labelled request.
    #[error("line {line} of `{}` is not a labelled request", path.display())]
    Row {
        path: PathBuf,
        line: usize,
        source: serde_json::Error,
    },
    /// The file of features is truncated, or was made by another version of the code.
    #[error("`{}` was not made by this version of the features: make it again with `train --texts PATH`", path.display())]
    Stale { path: PathBuf },
}

/// A row of a file of texts.
#[derive(Deserialize)]
struct Row {
    request: String,
    history: Vec<Turn>,
    label: Tier,
    #[serde(default)]
    lang: String,
    /// Rows of one group are never on both sides of a split; without a group, rows with the same request form one.
    #[serde(default)]
    group: Option<String>,
    /// The probability that a labeler says `pro`, if known better than from one label.
    #[serde(default)]
    target: Option<f64>,
    /// Whether the labeler was sure.
    #[serde(default = "yes")]
    sure: bool,
    /// Whether several labelers agree.
    #[serde(default = "yes")]
    agree: bool,
}

const fn yes() -> bool {
    true
}

/// A labelled request as the trainer uses it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) features: Features,
    pub(crate) group: u64,
    /// The probability that a labeler says `pro`, in percent.
    percent: u8,
    pub(crate) sure: bool,
    pub(crate) english: bool,
    pub(crate) follows: bool,
}

impl Sample {
    fn of(row: &Row) -> Self {
        let mut features = Features::of(&row.request, &row.history);
        features.blocks.iter_mut().for_each(|block| block.sort_unstable());
        Self {
            features,
            group: fnv(row.group.as_ref().unwrap_or(&row.request)),
            percent: row
                .target
                .map_or(if row.label == Tier::Pro { 100 } else { 0 }, |target| {
                    (target * 100.0).round().clamp(0.0, 100.0) as u8
                }),
            sure: row.sure,
            english: row.lang == "en",
            follows: !row.history.is_empty(),
        }
    }

    pub(crate) const fn fold(&self) -> u64 {
        (self.group >> 17) % FOLDS
    }

    pub(crate) const fn pro(&self) -> bool {
        self.percent >= 50
    }

    /// The probability that a labeler says `pro`.
    pub(crate) fn target(&self) -> f64 {
        f64::from(self.percent) / 100.0
    }

    /// The agreement of the labels, from 0 to 1.
    pub(crate) fn confidence(&self) -> f64 {
        (2.0 * self.target() - 1.0).abs()
    }
}

/// Reads labelled requests from a file, or from the `.jsonl` files of a folder in the order of their names.
pub(crate) fn load(path: &Path) -> Result<Vec<Sample>, Error> {
    if !path.is_dir() {
        return load_file(path);
    }
    let entries = std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(|source| read_error(path, source))?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    let samples: Result<Vec<_>, Error> = files.iter().map(|file| load_file(file)).collect();
    Ok(samples?.concat())
}

/// Reads one JSON object per line, without rows on which labelers disagree.
fn load_file(path: &Path) -> Result<Vec<Sample>, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| read_error(path, source))?;
    let mut samples = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row: Row = serde_json::from_str(line).map_err(|source| Error::Row {
            path: path.to_owned(),
            line: at + 1,
            source,
        })?;
        if row.agree {
            samples.push(Sample::of(&row));
        }
    }
    Ok(samples)
}

/// The number of samples with each feature, for features that occur in enough groups.
pub(crate) fn known(samples: &[&Sample]) -> HashMap<u32, usize> {
    let mut groups: HashMap<u32, (HashSet<u64>, usize)> = HashMap::new();
    for sample in samples {
        for bucket in sample.features.blocks.iter().flatten() {
            let (seen, count) = groups.entry(*bucket).or_default();
            if seen.len() < FEWEST_GROUPS {
                seen.insert(sample.group);
            }
            *count += 1;
        }
    }
    let enough = groups.into_iter().filter(|(_, (seen, _))| seen.len() >= FEWEST_GROUPS);
    enough.map(|(bucket, (_, count))| (bucket, count)).collect()
}

/// Writes the features of `samples` that are `known`. The texts of the samples in `reference` are in the repository: a fingerprint of their
/// features shows whether the file fits the code.
pub(crate) fn write_features(
    path: &Path,
    samples: &[Sample],
    known: &HashMap<u32, usize>,
    reference: &[Sample],
) -> Result<(), Error> {
    let mut bytes = fingerprint(reference).to_le_bytes().to_vec();
    for sample in samples {
        bytes.extend(sample.group.to_le_bytes());
        let flags = [sample.sure, sample.english, sample.follows];
        bytes.push(sample.percent);
        bytes.push((0..).zip(flags).map(|(bit, flag)| u8::from(flag) << bit).sum());
        bytes.extend(sample.features.counts.iter().flat_map(|count| count.to_le_bytes()));
        for block in &sample.features.blocks {
            let kept: Vec<u32> = block
                .iter()
                .copied()
                .filter(|bucket| known.contains_key(bucket))
                .collect();
            push_varint(kept.len() as u32, &mut bytes);
            let mut before = 0;
            for bucket in kept {
                push_varint(bucket - before, &mut bytes);
                before = bucket;
            }
        }
    }
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    let packed = encoder.write_all(&bytes).and_then(|()| encoder.finish());
    let written = packed.and_then(|packed| std::fs::write(path, packed));
    written.map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}

/// Reads a file that [`write_features`] wrote.
pub(crate) fn read_features(path: &Path, reference: &[Sample]) -> Result<Vec<Sample>, Error> {
    let packed = std::fs::read(path).map_err(|source| read_error(path, source))?;
    let mut bytes = Vec::new();
    let unpacked = ZlibDecoder::new(packed.as_slice()).read_to_end(&mut bytes);
    unpacked.map_err(|source| read_error(path, source))?;
    let stale = || Error::Stale { path: path.to_owned() };
    let mut rest = bytes.as_slice();
    if u64::from_le_bytes(take(&mut rest).ok_or_else(stale)?) != fingerprint(reference) {
        return Err(stale());
    }
    let mut samples = Vec::new();
    while !rest.is_empty() {
        samples.push(read_sample(&mut rest).ok_or_else(stale)?);
    }
    Ok(samples)
}

fn read_sample(rest: &mut &[u8]) -> Option<Sample> {
    let group = u64::from_le_bytes(take(rest)?);
    let [percent, flags] = take(rest)?;
    let mut counts = [0.0; COUNTS];
    for count in &mut counts {
        *count = f32::from_le_bytes(take(rest)?);
    }
    let mut blocks = [const { Vec::new() }; BLOCKS];
    for block in &mut blocks {
        let mut bucket = 0;
        for _ in 0..take_varint(rest)? {
            bucket += take_varint(rest)?;
            block.push(bucket);
        }
    }
    let flag = |bit: u8| flags & (1 << bit) != 0;
    Some(Sample {
        features: Features { blocks, counts },
        group,
        percent,
        sure: flag(0),
        english: flag(1),
        follows: flag(2),
    })
}

/// A number that changes with the features of `samples`.
fn fingerprint(samples: &[Sample]) -> u64 {
    samples.iter().fold(0, |hash, sample| {
        let counts = sample.features.counts.iter().map(|count| count.to_bits());
        let numbers = sample.features.blocks.iter().flatten().copied().chain(counts);
        numbers.fold(hash, |hash, number| {
            (hash ^ u64::from(number)).wrapping_mul(0x0100_0000_01b3).rotate_left(5)
        })
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*taken)
}

/// Reads a number in groups of seven bits, the lowest group first.
fn take_varint(rest: &mut &[u8]) -> Option<u32> {
    let mut number = 0;
    for shift in (0..32).step_by(7) {
        let [byte] = take(rest)?;
        number |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn push_varint(mut number: u32, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn read_error(path: &Path, source: std::io::Error) -> Error {
    Error::Read {
        path: path.to_owned(),
        source,
    }
}

/// FNV-1a, 64 bits.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
