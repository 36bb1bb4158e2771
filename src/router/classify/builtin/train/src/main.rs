//! Trains the built-in classifier, and measures it.
//!
//! - `train` cross-validates, prints how well that went, and writes `weights.bin`;
//! - `train --check` only says whether `weights.bin` is what training would write;
//! - `evaluate FILE` scores the committed weights on labelled requests.

mod corpus;
mod learn;
mod measure;
mod solve;

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use corpus::{FOLDS, Sample, load};
use gem_setup::router::classify::builtin::model::Model;
use learn::Corpus;
use measure::{Prediction, Report, accuracy, share};

const USAGE: &str = "usage: gem-setup-train train [--check] | evaluate FILE";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut out = std::io::stdout().lock();
    let outcome = match arguments.as_slice() {
        ["train"] => train(&mut out),
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
            // Nobody is left to tell if even that fails.
            let _ = writeln!(std::io::stderr(), "{text}");
            ExitCode::FAILURE
        }
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn weights_file() -> PathBuf {
    folder().join("../weights.bin")
}

fn train(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let (rows, supplement) = (
        load(&folder().join("train.jsonl"))?,
        load(&folder().join("supplement.jsonl"))?,
    );
    let corpus = Corpus {
        rows: &rows,
        supplement: &supplement,
    };
    cross_validate(corpus, out)?;
    carry_over(corpus, out)?;
    let model = corpus.learn_calibrated(|_| true);
    let unlike = load(&folder().join("unlike.jsonl"))?;
    writeln!(
        out,
        "\n{} requests unlike those, never trained on\n{}",
        unlike.len(),
        Report(&predict(&model, &unlike))
    )?;
    std::fs::write(weights_file(), model.to_bytes())?;
    Ok(())
}

fn check() -> Result<(), Box<dyn Error>> {
    let (rows, supplement) = (
        load(&folder().join("train.jsonl"))?,
        load(&folder().join("supplement.jsonl"))?,
    );
    let corpus = Corpus {
        rows: &rows,
        supplement: &supplement,
    };
    let fresh = corpus.learn_calibrated(|_| true).to_bytes();
    if std::fs::read(weights_file())? == fresh {
        Ok(())
    } else {
        Err(
            "weights.bin is not what training writes: run `cargo run -p gem-setup-train --profile training -- train`"
                .into(),
        )
    }
}

fn evaluate(file: &Path, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let rows = load(file)?;
    let predictions = predict(Model::builtin(), &rows);
    for (row, prediction) in rows.iter().zip(&predictions) {
        if (prediction.probability >= 0.5) != row.pro {
            let start: String = row.request.chars().take(100).collect();
            writeln!(
                out,
                "{:.2} {} {start:?}",
                prediction.probability,
                if row.pro { "pro  " } else { "flash" }
            )?;
        }
    }
    writeln!(out, "{}", Report(&predictions))?;
    Ok(())
}

fn predict<'a>(model: &Model, rows: impl IntoIterator<Item = &'a Sample>) -> Vec<Prediction> {
    rows.into_iter()
        .map(|row| Prediction {
            probability: model.weigh(&row.features).probability,
            pro: row.pro,
        })
        .collect()
}

/// Every fold is predicted by a model that has seen none of it, neither in training nor in calibration.
fn cross_validate(corpus: Corpus<'_>, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let (mut predictions, mut follow_ups) = (Vec::new(), Vec::new());
    let (mut complex, mut named) = (0, 0);
    for fold in 0..FOLDS {
        let model = corpus.learn_calibrated(|other| other != fold);
        let left_out = || corpus.rows.iter().filter(|row| row.fold == fold);
        predictions.extend(predict(&model, left_out()));
        follow_ups.extend(predict(&model, left_out().filter(|row| row.follows)));
        complex += left_out().filter(|row| row.pro).count();
        named += left_out()
            .filter(|row| row.pro && usize::from(model.weigh(&row.features).rule) == row.rule)
            .count();
    }
    writeln!(
        out,
        "{} rows in {FOLDS} folds, rows with the same request together",
        corpus.rows.len()
    )?;
    write!(out, "{}", Report(&predictions))?;
    writeln!(out, "accuracy, with a history          {:.4}", accuracy(&follow_ups))?;
    writeln!(out, "rule named right, of complex      {:.4}", share(named, complex))?;
    Ok(())
}

/// What is learnt from one kind of request and holds for another.
fn carry_over(corpus: Corpus<'_>, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let english = corpus.learn(|row| row.english);
    let foreign = predict(&english, corpus.rows.iter().filter(|row| !row.english));
    let alone = corpus.learn(|row| !row.follows);
    let follow_ups = predict(&alone, corpus.rows.iter().filter(|row| row.follows));
    writeln!(
        out,
        "\ntrained on English alone, accuracy on {} rows in other languages  {:.4}",
        foreign.len(),
        accuracy(&foreign)
    )?;
    writeln!(
        out,
        "trained without history, accuracy on {} rows with history        {:.4}",
        follow_ups.len(),
        accuracy(&follow_ups)
    )?;
    Ok(())
}
