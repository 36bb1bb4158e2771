//! `doctor`: the inspection of every step, and other faults that prevent routing.

use super::check::{Check, Fix, Status, Subject};
use super::launcher::starts_own;
use super::step::Inspection;
use super::step_id::StepId;
use super::steps::SMOKE;
use super::{Setup, advice, client, kept, needs, network, shown, smoke, steps};
use crate::net::check_certificates;
use crate::progress::Size;
use crate::record::is_there;
use crate::settings;

/// The records of `install`.
pub const RECORDS: Subject = Subject::new("setup.records", "state, catalog and options");
const LEFTOVER: Subject = Subject::new("settings.leftover", "settings without an installation");
const OVERRIDE: Subject = Subject::new("routing.override", "nothing overrides the router");
const MEMORY: Subject = Subject::new("platform.memory", "memory");
const GPU: Subject = Subject::new("platform.gpu", "graphics processor");
/// The memory for a 1 GB model, its runtime and other programs, in bytes.
const MEMORY_NEEDED: u64 = 2_000_000_000;

/// The slower checks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extras {
    /// Send the joke and the probes.
    pub smoke: bool,
    /// Contact the hosts of all downloads.
    pub network: bool,
}

/// The result of `doctor`.
#[derive(Clone, Debug)]
pub struct Examination {
    /// Every check, in order.
    pub checks: Vec<Check>,
    /// The steps that need a repair.
    pub unfinished: Vec<StepId>,
}

impl Examination {
    /// Whether no check failed.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.checks.iter().all(|check| check.status != Status::Fail)
    }
}

/// Examines everything and changes nothing.
pub async fn examine(setup: &Setup<'_>, extras: Extras) -> Examination {
    let mut found = Vec::with_capacity(StepId::ALL.len());
    for id in StepId::ALL {
        let mut inspection = needs::inspect(setup, id).await;
        if id == StepId::Runtime {
            steps::inspect_use(setup, &mut inspection.checks).await;
            inspection.checks.extend(inspect_records(setup));
        }
        found.push((id, inspection));
    }
    let settings = settings::load(&setup.site.places(), setup.site.environment);
    let mut others = vec![
        inspect_memory(setup),
        inspect_gpu(setup),
        inspect_override(setup),
        client::inspect_program(setup),
        client::inspect_login(setup, &settings),
    ];
    others.extend(inspect_leftover(setup));
    if extras.network {
        let mut downloads = network::inspect(setup).await;
        let is_needed = |(id, found): &(StepId, Inspection)| *id <= StepId::Model && !found.is_settled();
        if !found.iter().any(is_needed) {
            // They have nothing to bring, so routing works without them.
            downloads.iter_mut().for_each(Check::be_a_warning);
        }
        others.extend(downloads);
    }
    if extras.smoke {
        for (_, inspection) in &mut found {
            inspection.checks.retain(|check| check.id != SMOKE.id);
        }
        others.push(inspect_smoke(setup).await);
    }
    needs::weigh_home(setup, &mut found);
    advice::settle(setup, &mut found, &mut others);
    let unfinished = found.iter().filter(|(_, inspection)| inspection.is_repairable());
    let unfinished = unfinished.map(|(id, _)| *id).collect();
    let checks = found.into_iter().flat_map(|(_, inspection)| inspection.checks);
    Examination {
        checks: checks.chain(others).collect(),
        unfinished,
    }
}

/// Whether the recorded certificates can be used, and whether all files that the state names are in the home. The home
/// would lose others if it or they are moved.
fn inspect_records(setup: &Setup<'_>) -> Option<Check> {
    let certificates = setup.state.chosen.ca_cert.as_deref();
    if let Some((file, reason)) = certificates.and_then(|file| Some((file, check_certificates(file).err()?))) {
        let detail = format!("cannot use the certificates in {}: {reason}", shown(file));
        return Some(RECORDS.fail(detail, Fix::run("install --ca-cert FILE")));
    }
    let files = kept::elsewhere(&setup.state, &setup.site.layout);
    let names: Vec<String> = files.into_iter().map(shown).collect();
    (!names.is_empty()).then(|| {
        let detail = format!("the state names {}, outside of the home", names.join(" and "));
        RECORDS.warn(detail, Fix::repair())
    })
}

/// Whether settings name a gem-setup that was deleted by hand.
fn inspect_leftover(setup: &Setup<'_>) -> Option<Check> {
    let (layout, places) = (&setup.site.layout, setup.site.places());
    (!is_there(&layout.state_file()) && starts_own(layout, &places)).then(|| {
        let detail = format!(
            "{} still makes Gemini CLI start gem-setup, which is not installed here",
            shown(places.user())
        );
        LEFTOVER.warn(detail, Fix::run_or("uninstall", "install again"))
    })
}

fn inspect_memory(setup: &Setup<'_>) -> Check {
    let Some(total) = gem_platform::probe::memory() else {
        return MEMORY.skip("the system does not say");
    };
    let detail = Size(total).to_string();
    if setup.wanted.chosen.runtime.has_models() && total < MEMORY_NEEDED {
        return MEMORY.warn(
            format!("{detail}; the model needs 2 GB"),
            Fix::run("install --runtime builtin"),
        );
    }
    MEMORY.ok(detail)
}

fn inspect_gpu(setup: &Setup<'_>) -> Check {
    if !setup.wanted.chosen.runtime.has_models() {
        return GPU.skip("the builtin runtime needs none");
    }
    let found = gem_platform::probe::gpus();
    let shut = found
        .iter()
        .filter_map(|gpu| gpu.device.as_ref())
        .find(|device| !device.usable);
    if let Some(device) = shut {
        let detail = format!("you are not allowed to use `{}`", device.path.display());
        return GPU.warn(
            detail,
            Fix::by_hand(format!(
                "add yourself to the group that owns `{}`, usually `render`",
                device.path.display()
            )),
        );
    }
    if found.is_empty() {
        return GPU.ok("none found; the model runs on the processor, which is slower");
    }
    let names: Vec<&str> = found.iter().map(|gpu| gpu.name.as_str()).collect();
    GPU.ok(names.join(", "))
}

/// Whether anything prevents Gemini CLI from using its router (docs/facts.md section 4: precedence).
pub(super) fn inspect_override(setup: &Setup<'_>) -> Check {
    let settings = settings::load(&setup.site.places(), setup.site.environment);
    let fail = |detail: String, fix: String| OVERRIDE.fail(detail, Fix::by_hand(fix));
    if let Some(found) = client::variable(setup, &settings, "GEMINI_MODEL") {
        let model = found.value.trim();
        return match &found.file {
            // GEMINI_MODEL wins over `model.name`, which is then without effect.
            _ if routes(model) => OVERRIDE.ok(format!("GEMINI_MODEL is `{model}`")),
            None => fail(
                format!("the variable GEMINI_MODEL is set to `{model}`, so nothing is routed"),
                "unset GEMINI_MODEL".to_owned(),
            ),
            Some(file) => fail(
                format!(
                    "`{}` sets GEMINI_MODEL to `{model}`, so nothing is routed",
                    file.display()
                ),
                format!("remove GEMINI_MODEL from `{}`", file.display()),
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
            format!("remove `model.name` from `{}`, or set it to `auto`", place.display()),
        );
    }
    OVERRIDE.ok(if setup.site.layout.is_of_system() {
        "no model is fixed by the machine's settings"
    } else {
        "no model is fixed by environment or settings"
    })
}

/// Whether a request for `model` still lets the router choose.
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
            let probes = probes.join(", ");
            outcome.doubts().map_or_else(
                || SMOKE.ok(probes.clone()),
                |doubts| {
                    let fix = "requests are routed by such answers: run `gem-setup smoke` again, and choose another model if it stays so";
                    SMOKE.warn(format!("{probes}; {doubts}"), Fix::by_hand(fix))
                },
            )
        }
        Err(failure) => {
            let fix = Fix::by_hand(failure.hint.unwrap_or_default());
            SMOKE.fail(failure.message, fix)
        }
    }
}
