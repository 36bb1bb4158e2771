//! Trains the built-in classifier, and measures it.
//!
//! - `train` cross-validates, prints how well that went, and writes `weights.bin`; `--texts PATH` first makes the file of hashed
//!   features from the real requests' texts (a file or a folder of `.jsonl` files), which are not in the repository;
//! - `train --check` only says whether `weights.bin` is what training would write;
//! - `evaluate FILE` scores `weights.bin` on labelled requests, one JSON object per line.

mod corpus;
mod learn;
mod measure;
mod solve;

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use corpus::{FOLDS, Sample, known, load, read_features, write_features};
use gem_setup::router::classify::builtin::model::Model;
use learn::{Corpus, Trainer};
use measure::{Prediction, Report};

/// Reports leave out rows whose labels agree less than this.
const SETTLED: f64 = 0.5;

const USAGE: &str = "usage: gem-setup-train train [--check | --texts PATH] | evaluate FILE";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut out = std::io::stdout().lock();
    let outcome = match arguments.as_slice() {
        ["train"] => train(&mut out),
        ["train", "--texts", texts] => extract(Path::new(texts)).and_then(|()| train(&mut out)),
        ["train", "--check"] => check(),
        ["evaluate", file] => evaluate(Path::new(file), &mut out),
        _ => Err(USAGE.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(inner) = source {
                text = format!("{text}: {inner}");
                source = inner.source();
            }
            // If this fails too, only the exit status remains.
            let _ = writeln!(std::io::stderr(), "{text}");
            ExitCode::FAILURE
        }
    }
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// `real` reads the real requests; it takes the written ones as an argument.
fn corpus(real: impl FnOnce(&[Sample]) -> Result<Vec<Sample>, corpus::Error>) -> Result<Corpus, corpus::Error> {
    let written = load(&file("train.jsonl"))?;
    Ok(Corpus {
        real: real(&written)?,
        written,
        supplement: load(&file("supplement.jsonl"))?,
    })
}

fn committed() -> Result<Corpus, corpus::Error> {
    corpus(|written| read_features(&file("real.bin"), written))
}

/// Makes the file of hashed features from the texts at `texts`.
fn extract(texts: &Path) -> Result<(), Box<dyn Error>> {
    let corpus = corpus(|_| load(texts))?;
    let known = known(&corpus.samples().collect::<Vec<_>>());
    Ok(write_features(
        &file("real.bin"),
        &corpus.real,
        &known,
        &corpus.written,
    )?)
}

fn train(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let corpus = committed()?;
    let trainer = Trainer::new(&corpus);
    // Each fold is predicted by a model that has not seen any of its rows, neither in training nor in calibration.
    let models: Vec<Model> = (0..FOLDS)
        .map(|fold| trainer.learn_calibrated(|other| other != fold))
        .collect();
    for (kind, rows) in [("real", &corpus.real), ("written", &corpus.written)] {
        let mut predictions = predict(rows, |row| &models[row.fold() as usize]);
        predictions.retain(|prediction| prediction.row.confidence() >= SETTLED);
        writeln!(
            out,
            "{} {kind} requests in {FOLDS} folds, groups together",
            predictions.len()
        )?;
        writeln!(out, "{}", Report(&predictions))?;
    }
    std::fs::write(file("../weights.bin"), trainer.learn_calibrated(|_| true).to_bytes())?;
    Ok(())
}

fn check() -> Result<(), Box<dyn Error>> {
    let corpus = committed()?;
    if std::fs::read(file("../weights.bin"))? == Trainer::new(&corpus).learn_calibrated(|_| true).to_bytes() {
        Ok(())
    } else {
        Err(
            "weights.bin is not what training writes: run `cargo run -p gem-setup-train --profile training -- train`"
                .into(),
        )
    }
}

fn evaluate(rows: &Path, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let rows = load(rows)?;
    let bytes = std::fs::read(file("../weights.bin"))?;
    let model = Model::parse(&bytes).ok_or("weights.bin is not of this version")?;
    let predictions = predict(&rows, |_| &model);
    writeln!(out, "{} requests\n{}", rows.len(), Report(&predictions))?;
    Ok(())
}

fn predict<'a>(rows: &'a [Sample], model: impl Fn(&Sample) -> &'a Model) -> Vec<Prediction<'a>> {
    rows.iter()
        .map(|row| Prediction {
            probability: model(row).judge(&row.features).probability,
            row,
        })
        .collect()
}
