//! A mock of the hosted Gemini API as a program, for clients that are separate programs.
//!
//! `mock-gemini --log FILE [--fail MODEL:STATUS[-per-day]]…` prints its URL, then adds a line of JSON to FILE for each request,
//! with its model, target, key (from the header) and contents, until its standard input ends. FILE may be emptied at any time.

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use gem_setup_support::upstream::{Fault, Upstream};
use serde_json::{Value, json};

/// The interval at which requests are written to the log.
const INTERVAL: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "mock-gemini: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(mut args: impl Iterator<Item = String>) -> io::Result<()> {
    let upstream = Upstream::start();
    let mut log = None;
    while let Some(flag) = args.next() {
        let value = args
            .next()
            .ok_or_else(|| io::Error::other(format!("`{flag}` wants a value")))?;
        match flag.as_str() {
            "--log" => log = Some(File::options().create(true).append(true).open(&value)?),
            "--fail" => upstream.fail(fault(&value)?),
            _ => return Err(io::Error::other(format!("`{flag}` is no option"))),
        }
    }
    let mut log = log.ok_or_else(|| io::Error::other("`--log FILE` is missing"))?;
    let mut out = io::stdout();
    writeln!(out, "{}", upstream.url())?;
    out.flush()?;

    let (tell, told) = channel();
    std::thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        let _ = tell.send(());
    });
    let mut written = 0;
    while told.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
        for seen in upstream.seen().iter().skip(written) {
            let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
            let target = without_key(&seen.target);
            let line =
                json!({"model": seen.model, "target": target, "key": seen.api_key, "contents": body["contents"]});
            writeln!(log, "{line}")?;
            written += 1;
        }
    }
    Ok(())
}

/// `MODEL:STATUS`, or `MODEL:429-per-day` for a quota that is exhausted until the next day (docs/facts.md section 4).
fn fault(text: &str) -> io::Result<Fault> {
    let wrong = || io::Error::other(format!("`{text}` is no MODEL:STATUS[-per-day]"));
    let (model, kind) = text.rsplit_once(':').ok_or_else(wrong)?;
    let (status, details) = match kind.strip_suffix("-per-day") {
        Some(status) => {
            let violation = json!({"quotaId": "GenerateRequestsPerDayPerProjectPerModel"});
            let failure = json!({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]});
            (status, json!([failure]))
        }
        None => (kind, json!([])),
    };
    let status = status.parse().map_err(|_| wrong())?;
    Ok(Fault::api(model, status, "failed on purpose", &details))
}

fn without_key(target: &str) -> &str {
    target.split_once("key=").map_or(target, |(before, _)| before)
}
