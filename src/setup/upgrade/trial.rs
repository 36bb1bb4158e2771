//! Tries a release on a spare port before it becomes current.

use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Explain, Failure, Kind};
use crate::layout::Layout;
use crate::progress::waiting;
use crate::runtime::Closed;
use crate::setup::smoke::{self, ProbeAnswer};
use crate::setup::{Setup, current_command, shown};
use crate::supervise::{EngineOutput, Trial, TrialConfig};

const LOG: &str = "trial.log";
const LOG_IN_USE: &str = "trial-in-use.log";

/// The subject of a trial.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tried {
    NewRuntime,
    PreviousRuntime,
    NewModel,
    PreviousModel,
}

impl Tried {
    /// The step that the trial belongs to, and the text shown while it runs.
    const fn in_words(self) -> (&'static str, &'static str) {
        match self {
            Self::NewRuntime => ("runtime", "trying the new runtime on a spare port"),
            Self::PreviousRuntime => ("runtime", "trying the runtime before on a spare port"),
            Self::NewModel => ("model", "trying the new model on a spare port"),
            Self::PreviousModel => ("model", "trying the model before on a spare port"),
        }
    }
}

/// Starts the wanted release of `setup` on a spare port, sends it the smoke test's prompts, and returns the result in words. Where no
/// prompt can be sent, it is enough that a previous runtime starts, or any runtime whose model was left out. A release that judges worse
/// than the one in use is refused.
///
/// # Errors
/// Why the release cannot become current.
pub(super) async fn try_release(setup: &Setup<'_>, what: Tried) -> Result<String, Failure> {
    let runtime = setup.runtime()?;
    let chosen = &setup.wanted.chosen;
    let gate = setup.site.gate(chosen, &setup.state)?;
    let Some((command, gate)) = runtime.serve().zip(gate) else {
        return Ok("it needs no trial".to_owned());
    };
    let config = TrialConfig {
        command,
        model: chosen.model.to_string(),
        gate: Arc::new(gate),
        guard: setup.site.guard(),
        output: if runtime.prints_requests() {
            EngineOutput::ErrorsOnly
        } else {
            EngineOutput::All
        },
        log: log_file(setup),
    };
    let (step, wait) = what.in_words();
    let tried = waiting(setup.tools.progress, step, wait, ask(&config)).await;
    let closed = match tried.map_err(|reason| refused(setup, what, &config, &reason))? {
        Ok(answers) => {
            let compared = compare(setup, what, &config, &answers).await;
            compared.map_err(|reason| refused(setup, what, &config, &reason))?;
            return Ok("tried it on a spare port".to_owned());
        }
        Err(closed) => closed,
    };
    match closed {
        closed if may_stay_unasked(setup, what) => {
            Ok(format!("started it on a spare port, without a prompt: {closed}"))
        }
        Closed::Model { model } => {
            let reason = format!("it does not know the model `{model}`");
            Err(refused(setup, what, &config, &reason))
        }
        closed => Err(untriable(&closed)),
    }
}

/// Whether a release may become current without a prompt.
fn may_stay_unasked(setup: &Setup<'_>, what: Tried) -> bool {
    match what {
        Tried::NewRuntime => !setup.wanted.with_model,
        // It worked when it was replaced, and may be the one that can pull the model.
        Tried::PreviousRuntime => true,
        Tried::NewModel | Tried::PreviousModel => false,
    }
}

/// The failure if a missing item prevents the trial of a new release.
pub(super) fn untriable(closed: &Closed) -> Failure {
    let message = format!("the new version cannot be tried with prompts, so nothing was switched: {closed}");
    let hint = closed.hint().unwrap_or_default();
    Failure::new(closed.kind(), message).with_hint(format!("{hint}, then the same command again"))
}

/// The answers to the probes, or the item that the engine lacks to answer prompts.
async fn ask(config: &TrialConfig) -> Result<Result<Vec<ProbeAnswer>, Closed>, String> {
    let mut trial = Trial::start(config).await?;
    let mut outcome = config.gate.open().await.map(|()| Vec::new());
    if let Ok(answers) = &mut outcome {
        let peer = trial.peer();
        let prompts = async {
            smoke::try_prompts(peer, &config.model)
                .await
                .map_err(|failure| failure.message)
        };
        *answers = trial.during(prompts).await?;
    }
    trial.end().await;
    Ok(outcome)
}

/// Compares the wrong ones of `answers` with those of the release in use. A previous release is not compared: its user has asked for it.
///
/// # Errors
/// The probes that only the release in use answers right.
async fn compare(setup: &Setup<'_>, what: Tried, tried: &TrialConfig, answers: &[ProbeAnswer]) -> Result<(), String> {
    let wrong: Vec<_> = answers.iter().filter(|answer| !answer.is_right()).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let (step, _) = what.in_words();
    let in_use = match what {
        Tried::PreviousRuntime | Tried::PreviousModel => Vec::new(),
        Tried::NewRuntime | Tried::NewModel => {
            let wait = "asking the release in use the same on a spare port";
            waiting(setup.tools.progress, step, wait, ask_in_use(setup, tried)).await
        }
    };
    let is_right_in_use = |request: &str| {
        in_use
            .iter()
            .any(|answer| answer.request == request && answer.is_right())
    };
    let worse: Vec<String> = wrong
        .iter()
        .filter(|answer| is_right_in_use(answer.request))
        .map(|answer| {
            let (got, right) = (answer.got_in_words(), answer.expected);
            format!(
                "to the routing probe “{}” it answers {got}, the release in use answers `{right}` as the rubric says",
                answer.request
            )
        })
        .collect();
    if !worse.is_empty() {
        return Err(worse.join("; "));
    }
    for answer in wrong {
        let (got, right) = (answer.got_in_words(), answer.expected);
        let remark = format!(
            "it answers {got} to the routing probe “{}”, unlike the rubric: `{right}`",
            answer.request
        );
        setup.tools.progress.note(step, &remark);
    }
    Ok(())
}

/// The answers of the recorded release with the recorded model; empty if it does not work.
async fn ask_in_use(setup: &Setup<'_>, tried: &TrialConfig) -> Vec<ProbeAnswer> {
    let recorded = &setup.state.chosen;
    let gate = setup.site.gate(recorded, &setup.state).ok().flatten();
    // Read from disk: the record in `setup` already describes the new release.
    let command = current_command(&setup.site, recorded)();
    let Some((gate, command)) = gate.zip(command) else {
        return Vec::new();
    };
    let config = TrialConfig {
        command,
        gate: Arc::new(gate),
        model: recorded.model.to_string(),
        log: setup.site.layout.versions().join(LOG_IN_USE),
        ..tried.clone()
    };
    match ask(&config).await {
        Ok(Ok(answers)) => answers,
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

fn log_file(setup: &Setup<'_>) -> PathBuf {
    setup.site.layout.versions().join(LOG)
}

/// The log files of trials.
pub(in crate::setup) fn logs(layout: &Layout) -> [PathBuf; 2] {
    [LOG, LOG_IN_USE].map(|name| layout.versions().join(name))
}

fn refused(setup: &Setup<'_>, what: Tried, config: &TrialConfig, reason: &str) -> Failure {
    let version = setup.version().unwrap_or("of unknown version");
    let runtime = setup.wanted.chosen.runtime;
    let (part, name) = match what {
        Tried::NewRuntime => ("runtime", format!("new runtime `{runtime}` {version}")),
        Tried::PreviousRuntime => ("runtime", format!("previous runtime `{runtime}` {version}")),
        Tried::NewModel => ("model", format!("new model `{}`", setup.state.chosen.model)),
        Tried::PreviousModel => ("model", format!("previous model `{}`", setup.state.chosen.model)),
    };
    let message = format!("the {name} does not work here, nothing was switched: {reason}");
    let has_output = config.log.metadata().is_ok_and(|metadata| metadata.len() > 0);
    let log = if has_output {
        format!("the trial's whole output is in {}", shown(&config.log))
    } else {
        "the trial had no output".to_owned()
    };
    let mut hint = format!("the {part} in use stays; {log}");
    if let Tried::PreviousRuntime = what {
        hint = format!("{hint}; {}", bring_again(setup));
    }
    Failure::new(Kind::Runtime, message).with_hint(hint)
}

/// Advice if the previous release is damaged.
pub(super) fn bring_again(setup: &Setup<'_>) -> String {
    let version = setup.version().unwrap_or("that version");
    match &setup.state.chosen.catalog {
        Some(file) => format!(
            "`gem-setup upgrade --allow-older --catalog \"{}\"` installs {version} again",
            file.display()
        ),
        None => format!("`gem-setup upgrade --allow-older` installs {version} again from a catalog that has it"),
    }
}
