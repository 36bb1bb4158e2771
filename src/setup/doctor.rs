//! `doctor`: every step's inspection, and what else can defeat routing.

use std::path::{Path, PathBuf};

use super::check::{Check, Status};
use super::step::StepId;
use super::{Setup, network, smoke, steps};
use crate::environment::Environment;
use crate::settings;

const OVERRIDE: (&str, &str) = ("routing.override", "nothing overrides the router");
const MEMORY: (&str, &str) = ("platform.memory", "memory");
const GPU: (&str, &str) = ("platform.gpu", "graphics processor");
const CLIENT: (&str, &str) = ("client.gemini", "Gemini CLI");
const SMOKE: (&str, &str) = ("server.smoke", "answers to real prompts");
/// What a 1 GB model and its runtime need to run beside other programs; bytes.
const MEMORY_NEEDED: u64 = 2_000_000_000;

/// The slower checks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extras {
    /// Send the joke and the probes.
    pub smoke: bool,
    /// Ask the hosts that everything is downloaded from.
    pub network: bool,
}

/// What `doctor` found.
#[derive(Clone, Debug)]
pub struct Examination {
    /// Every check, in order.
    pub checks: Vec<Check>,
    /// The steps that `install` would apply.
    pub unfinished: Vec<StepId>,
}

impl Examination {
    /// Whether nothing failed.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.checks.iter().all(|check| check.status != Status::Fail)
    }
}

/// Looks at everything; changes nothing.
pub async fn examine(setup: &Setup<'_>, extras: Extras) -> Examination {
    let mut examination = Examination {
        checks: Vec::new(),
        unfinished: Vec::new(),
    };
    for id in StepId::ALL {
        let inspection = steps::inspect(setup, id).await;
        if inspection.has_failed() {
            examination.unfinished.push(id);
        }
        examination.checks.extend(inspection.checks);
        if id == StepId::Runtime {
            examination.checks.push(steps::inspect_loader(setup).await);
        }
    }
    examination.checks.extend([
        inspect_memory(setup),
        inspect_gpu(setup),
        inspect_override(setup),
        inspect_client(setup.environment),
    ]);
    if extras.network {
        examination.checks.extend(network::inspect(setup).await);
    }
    if extras.smoke {
        examination.checks.push(inspect_smoke(setup).await);
    }
    examination
}

fn inspect_memory(setup: &Setup<'_>) -> Check {
    let Some(total) = gem_platform::probe::memory() else {
        return Check::skip(MEMORY.0, MEMORY.1, "the system does not say");
    };
    let detail = format!("{:.1} GB", bytes_in_gb(total));
    if setup.choices.runtime.has_models() && total < MEMORY_NEEDED {
        return Check::warn(
            MEMORY.0,
            MEMORY.1,
            format!("{detail}; the model wants 2 GB"),
            "use `gem-setup install --runtime builtin` on this machine",
        );
    }
    Check::ok(MEMORY.0, MEMORY.1, detail)
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn bytes_in_gb(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

fn inspect_gpu(setup: &Setup<'_>) -> Check {
    if !setup.choices.runtime.has_models() {
        return Check::skip(GPU.0, GPU.1, "the builtin runtime needs none");
    }
    let found = gem_platform::probe::gpus();
    let shut = found
        .iter()
        .filter_map(|gpu| gpu.device.as_ref())
        .find(|device| !device.usable);
    if let Some(device) = shut {
        let detail = format!("you may not use `{}`", device.path.display());
        return Check::warn(
            GPU.0,
            GPU.1,
            detail,
            "add yourself to the group that owns it, usually `render`",
        );
    }
    if found.is_empty() {
        return Check::ok(GPU.0, GPU.1, "none found; the model runs on the processor, more slowly");
    }
    let names: Vec<&str> = found.iter().map(|gpu| gpu.name.as_str()).collect();
    Check::ok(GPU.0, GPU.1, names.join(", "))
}

/// Whether anything makes Gemini CLI pass its router by (FACTS section 4: precedence).
fn inspect_override(setup: &Setup<'_>) -> Check {
    if let Some(model) = setup.environment.var("GEMINI_MODEL").filter(|model| !routes(model)) {
        let detail = format!("the variable GEMINI_MODEL is set to `{model}`, so nothing is routed");
        return Check::fail(OVERRIDE.0, OVERRIDE.1, detail, "unset GEMINI_MODEL");
    }
    if let Some((file, model)) = model_in_env_files(setup) {
        let detail = format!(
            "`{}` sets GEMINI_MODEL to `{model}`, so nothing is routed",
            file.display()
        );
        return Check::fail(OVERRIDE.0, OVERRIDE.1, detail, "take GEMINI_MODEL out of that file");
    }
    let router = settings::load(&setup.places(), setup.environment).router();
    if let Some(model) = router.model_name.value.as_deref().filter(|model| !routes(model)) {
        let place = router.model_name.path.unwrap_or_default();
        let detail = format!(
            "`model.name` is `{model}` in `{}`, so nothing is routed",
            place.display()
        );
        return Check::fail(
            OVERRIDE.0,
            OVERRIDE.1,
            detail,
            "take `model.name` out of that file, or set it to `auto`",
        );
    }
    Check::ok(OVERRIDE.0, OVERRIDE.1, "no model is fixed by environment or settings")
}

/// Whether asking for `model` still leaves the choice to the router.
fn routes(model: &str) -> bool {
    model == "auto" || model.starts_with("auto-")
}

/// Gemini CLI reads variables from the first `.env` it finds: in the current directory or one above it, each time first
/// in `.gemini`, else in the home.
fn model_in_env_files(setup: &Setup<'_>) -> Option<(PathBuf, String)> {
    let above = setup.environment.current_dir().ancestors();
    let file = above
        .chain([setup.layout.home()])
        .flat_map(|dir| [dir.join(".gemini").join(".env"), dir.join(".env")])
        .find(|file| file.is_file())?;
    let text = std::fs::read_to_string(&file).ok()?;
    let model = text.lines().rev().find_map(|line| {
        let line = line.trim().trim_start_matches("export ");
        let value = line.strip_prefix("GEMINI_MODEL")?.trim_start().strip_prefix('=')?;
        Some(value.trim().trim_matches(['"', '\'']).to_owned())
    })?;
    (!model.is_empty() && !routes(&model)).then_some((file, model))
}

fn inspect_client(environment: &Environment) -> Check {
    match find_program(environment, "gemini") {
        Some(path) => Check::ok(CLIENT.0, CLIENT.1, path.display().to_string()),
        None => Check::warn(
            CLIENT.0,
            CLIENT.1,
            "there is no `gemini` on the PATH",
            "install it with `npm install -g @google/gemini-cli`",
        ),
    }
}

fn find_program(environment: &Environment, name: &str) -> Option<PathBuf> {
    which::which_in(name, environment.var("PATH"), environment.current_dir() as &Path).ok()
}

async fn inspect_smoke(setup: &Setup<'_>) -> Check {
    match smoke(setup).await {
        Ok(outcome) => {
            let probes: Vec<String> = outcome
                .probes
                .iter()
                .map(|probe| format!("{} in {} ms by {}", probe.got, probe.latency_ms, probe.answered_by))
                .collect();
            Check::ok(SMOKE.0, SMOKE.1, probes.join(", "))
        }
        Err(failure) => {
            let fix = failure.hint.unwrap_or_default();
            Check::fail(SMOKE.0, SMOKE.1, failure.message, fix)
        }
    }
}
