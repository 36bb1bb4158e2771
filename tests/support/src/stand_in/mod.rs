//! A stand-in for the `lit` runtime (docs/facts.md section 2), for machines without the real one.
//!
//! `list`, `pull MODEL`, `serve --port=N --verbose` behave like `lit` as far as known. Models are files under
//! `<home>/.litert-lm/models/MODEL/`. Environment variables switch on faults. Their names may also begin with `LIT_`: gem-setup passes such
//! variables to a runtime.
//!
//! - `STAND_IN_PULL`: `fail` (ends 1 half-way), `flaky` (does so once), `hang` (never ends), `terminal` (refuses to ask without a terminal),
//!   `gated` (ends 1 without `HUGGING_FACE_HUB_TOKEN`), `slow` (takes a second)
//! - `STAND_IN_SERVE`: words separated by commas, see [`serve::Behaviour`]
//! - `STAND_IN_CONTROL`: a file with the same words as `STAND_IN_SERVE`, read again for every request and at the start;
//!   where it exists it replaces `STAND_IN_SERVE`
//! - `STAND_IN_TRACE`: a file to which one JSON line is added for each invocation and each request

mod http;
pub mod serve;

use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// The content of a pulled model.
pub const MODEL_BYTES: &[u8] = b"stand-in model\n";

/// Runs the stand-in with these arguments (without the program's name).
#[must_use]
pub fn main(args: Vec<String>) -> ExitCode {
    trace(&json!({
        "invoked": args,
        "pid": std::process::id(),
        "token": std::env::var("HUGGING_FACE_HUB_TOKEN").ok(),
    }));
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["list"] => list(),
        ["list", "--show_all"] => say("gemma3-1b\ngemma3-1b-gpu-custom\ngemma3-half\ngemma3-other\nother-model\n"),
        ["pull", model, ..] => return pull(model),
        ["serve", options @ ..] => return serve::run(options),
        ["rm", model] => fs::remove_dir_all(models().join(model)),
        _ => {
            let _ = writeln!(io::stderr(), "usage: lit list|pull|serve|rm");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

/// The variable `STAND_IN_<name>`.
fn variable(name: &str) -> Option<String> {
    let names = [format!("LIT_STAND_IN_{name}"), format!("STAND_IN_{name}")];
    names.iter().find_map(|name| std::env::var(name).ok())
}

/// Adds one line to the trace file, if any.
fn trace(event: &Value) {
    let Some(path) = variable("TRACE") else {
        return;
    };
    let file = fs::OpenOptions::new().create(true).append(true).open(path);
    if let Ok(mut file) = file {
        let _ = file.write_all(format!("{event}\n").as_bytes());
    }
}

fn models() -> PathBuf {
    let home = std::env::var_os(if cfg!(windows) { "USERPROFILE" } else { "HOME" });
    PathBuf::from(home.unwrap_or_default())
        .join(".litert-lm")
        .join("models")
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn list() -> io::Result<()> {
    say("Downloaded models:\n")?;
    let Ok(entries) = fs::read_dir(models()) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        if entry.path().join("model.litertlm").exists() {
            say(&format!("  {}\n", entry.file_name().display()))?;
        }
    }
    Ok(())
}

fn pull(model: &str) -> ExitCode {
    match try_pull(model) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "Error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn try_pull(model: &str) -> io::Result<()> {
    let behaviour = variable("PULL").unwrap_or_default();
    if !model.starts_with("gemma3") {
        return Err(io::Error::other(format!("model '{model}' is not in the registry")));
    }
    if behaviour == "terminal" && !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        return Err(io::Error::other("a terminal is needed to accept the terms"));
    }
    if behaviour == "gated" && std::env::var_os("HUGGING_FACE_HUB_TOKEN").is_none() {
        return Err(io::Error::other("401 Unauthorized: set HUGGING_FACE_HUB_TOKEN"));
    }
    say("[Legal] The model you are about to download is governed by\nthe Gemma Terms of Use.\n\n")?;
    say("Do you accept these terms? (Y/N): ")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if !answer.trim().eq_ignore_ascii_case("y") {
        return Err(io::Error::other("terms not accepted"));
    }
    say(&format!("\nTerms accepted.\nDownloading model '{model}' ...\n"))?;
    for step in 1..=10_u32 {
        say(&format!("\rDownloading... {:.1} MB", 96.86 * f64::from(step)))?;
        thread::sleep(Duration::from_millis(if behaviour == "slow" { 100 } else { 2 }));
        let partial = models().join(model).join("model.part");
        if step == 5 && (behaviour == "fail" || (behaviour == "flaky" && !partial.exists())) {
            fs::create_dir_all(models().join(model))?;
            fs::write(&partial, [0; 5000])?;
            return Err(io::Error::other("connection reset by peer (os error 104)"));
        }
        if step == 5 && behaviour == "hang" {
            thread::sleep(Duration::from_secs(600));
        }
    }
    let directory = models().join(model);
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("model.litertlm"), MODEL_BYTES)?;
    say("\nDownload complete.\n")
}
