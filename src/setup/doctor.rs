//! `doctor`: every step's inspection, and other faults that defeat routing.

use super::check::{Check, Fix, Status};
use super::step_id::StepId;
use super::{Setup, advice, client, kept, network, shown, smoke, steps};
use crate::progress::Size;
use crate::settings::{self, EnvFile};

/// The records of `install`.
pub const RECORDS: (&str, &str) = ("setup.records", "state, catalog and options");
const OVERRIDE: (&str, &str) = ("routing.override", "nothing overrides the router");
const MEMORY: (&str, &str) = ("platform.memory", "memory");
const GPU: (&str, &str) = ("platform.gpu", "graphics processor");
const SMOKE: (&str, &str) = ("server.smoke", "answers to real prompts");
/// Memory for a 1 GB model, its runtime and other programs, in bytes.
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
    /// The steps that have something to repair.
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
    let mut found = Vec::with_capacity(StepId::ALL.len());
    for id in StepId::ALL {
        let mut inspection = steps::inspect(setup, id).await;
        if id == StepId::Runtime {
            inspection.checks.push(steps::inspect_loader(setup).await);
            inspection.checks.extend(inspect_records(setup));
        }
        found.push((id, inspection));
    }
    let settings = settings::load(&setup.site.places(), setup.site.environment);
    let mut others = vec![
        inspect_memory(setup),
        inspect_gpu(setup),
        inspect_override(setup),
        client::inspect_program(setup.site.environment),
        client::inspect_login(setup, &settings),
    ];
    if extras.network {
        others.extend(network::inspect(setup).await);
    }
    if extras.smoke {
        others.push(inspect_smoke(setup).await);
    }
    advice::settle(setup, &mut found, &mut others);
    let unfinished = found.iter().filter(|(_, inspection)| inspection.is_repairable());
    let unfinished = unfinished.map(|(id, _)| *id).collect();
    let checks = found.into_iter().flat_map(|(_, inspection)| inspection.checks);
    Examination {
        checks: checks.chain(others).collect(),
        unfinished,
    }
}

/// Whether the state names files that the home would lose if it or they are moved.
fn inspect_records(setup: &Setup<'_>) -> Option<Check> {
    let files = kept::elsewhere(&setup.state, &setup.site.layout);
    let names: Vec<String> = files.into_iter().map(shown).collect();
    (!names.is_empty()).then(|| {
        let detail = format!("the state names {}, outside of the home", names.join(" and "));
        Check::warn(RECORDS.0, RECORDS.1, detail, Fix::repair())
    })
}

fn inspect_memory(setup: &Setup<'_>) -> Check {
    let Some(total) = gem_platform::probe::memory() else {
        return Check::skip(MEMORY.0, MEMORY.1, "the system does not say");
    };
    let detail = Size(total).to_string();
    if setup.wanted.chosen.runtime.has_models() && total < MEMORY_NEEDED {
        return Check::warn(
            MEMORY.0,
            MEMORY.1,
            format!("{detail}; the model wants 2 GB"),
            Fix::run("install --runtime builtin"),
        );
    }
    Check::ok(MEMORY.0, MEMORY.1, detail)
}

fn inspect_gpu(setup: &Setup<'_>) -> Check {
    if !setup.wanted.chosen.runtime.has_models() {
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
            Fix::by_hand("add yourself to the group that owns it, usually `render`"),
        );
    }
    if found.is_empty() {
        return Check::ok(GPU.0, GPU.1, "none found; the model runs on the processor, more slowly");
    }
    let names: Vec<&str> = found.iter().map(|gpu| gpu.name.as_str()).collect();
    Check::ok(GPU.0, GPU.1, names.join(", "))
}

/// Whether anything keeps Gemini CLI from using its router (docs/facts.md section 4: precedence).
pub(super) fn inspect_override(setup: &Setup<'_>) -> Check {
    let settings = settings::load(&setup.site.places(), setup.site.environment);
    let env_file = EnvFile::read(&settings, setup.site.environment, setup.site.layout.home());
    let fail = |detail: String, fix: &str| Check::fail(OVERRIDE.0, OVERRIDE.1, detail, Fix::by_hand(fix));
    if let Some(found) = env_file.variable(setup.site.environment, "GEMINI_MODEL") {
        let model = found.value.trim();
        return match &found.file {
            // It goes before `model.name`, which then decides nothing.
            _ if routes(model) => Check::ok(OVERRIDE.0, OVERRIDE.1, format!("GEMINI_MODEL is `{model}`")),
            None => fail(
                format!("the variable GEMINI_MODEL is set to `{model}`, so nothing is routed"),
                "unset GEMINI_MODEL",
            ),
            Some(file) => fail(
                format!(
                    "`{}` sets GEMINI_MODEL to `{model}`, so nothing is routed",
                    file.display()
                ),
                "remove GEMINI_MODEL from that file",
            ),
        };
    }
    let router = settings.router();
    if let Some(model) = router.model_name.value.as_deref().filter(|model| !routes(model)) {
        let place = router.model_name.path.unwrap_or_default();
        return fail(
            format!(
                "`model.name` is `{model}` in `{}`, so nothing is routed",
                place.display()
            ),
            "remove `model.name` from that file, or set it to `auto`",
        );
    }
    Check::ok(OVERRIDE.0, OVERRIDE.1, "no model is fixed by environment or settings")
}

/// Whether asking for `model` still leaves the choice to the router.
fn routes(model: &str) -> bool {
    model.is_empty() || model == "auto" || model.starts_with("auto-")
}

async fn inspect_smoke(setup: &Setup<'_>) -> Check {
    match smoke(&setup.site, &setup.wanted, &setup.state, setup.tools.progress).await {
        Ok(outcome) => {
            let probes: Vec<String> = outcome
                .probes
                .iter()
                .map(|probe| format!("{} in {} ms by {}", probe.got, probe.latency_ms, probe.answered_by))
                .collect();
            Check::ok(SMOKE.0, SMOKE.1, probes.join(", "))
        }
        Err(failure) => {
            let fix = Fix::by_hand(failure.hint.unwrap_or_default());
            Check::fail(SMOKE.0, SMOKE.1, failure.message, fix)
        }
    }
}
