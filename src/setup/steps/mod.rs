//! The steps, one file each: `inspect` examines, `apply` changes.

mod companions;
mod litert_lm;
mod model;
mod model_name;
mod platform;
mod runtime;
mod runtime_checks;
mod server;
mod server_checks;
mod settings;
mod smoke;
mod space;
mod terms;

pub(super) use companions::companion_needs;
pub(super) use model::{model_needs, unusable_file};
pub(super) use model_name::unknown as unknown_model;
pub(super) use runtime::{inspect_use, lit_needs};
pub(super) use settings::FILE as SETTINGS;
pub use settings::refused_model;
pub(super) use smoke::{CHECK as SMOKE, PLAN as SMOKE_PLAN};
pub(super) use terms::ask as ask_terms;

use super::Setup;
use super::step::Inspection;
use super::step_id::StepId;
use crate::error::Failure;

/// Inspects step `id`, but not the files that it needs; changes nothing.
pub(super) async fn inspect(setup: &Setup<'_>, id: StepId) -> Inspection {
    match id {
        StepId::Platform => platform::inspect(setup),
        StepId::Space => space::inspect(setup),
        StepId::Runtime => runtime::inspect(setup).await,
        StepId::Companions => companions::inspect(setup),
        StepId::Terms => terms::inspect(setup),
        StepId::Model => model::inspect(setup).await,
        StepId::Settings => settings::inspect(setup),
        StepId::Server => server::inspect(setup).await,
        StepId::Smoke => smoke::inspect(setup),
    }
}

/// Applies step `id`, records its results, and returns its detail. If the step fails, the part that was done is recorded.
pub(super) async fn apply(setup: &mut Setup<'_>, id: StepId) -> Result<String, Failure> {
    let before = setup.state.clone();
    let done = carry_out(setup, id).await;
    if done.is_ok() && id == StepId::Model && setup.is_model_in_use() {
        setup.note_model();
        setup.state.forget_smoke();
    }
    let written = match setup.state == before {
        true => Ok(()),
        false => write(setup),
    };
    let detail = done?;
    written?;
    Ok(detail)
}

fn write(setup: &mut Setup<'_>) -> Result<(), Failure> {
    setup.choose_first()?;
    Ok(setup.state.write(&setup.site.layout.state_file())?)
}

async fn carry_out(setup: &mut Setup<'_>, id: StepId) -> Result<String, Failure> {
    match id {
        StepId::Platform | StepId::Space => Ok(String::new()),
        StepId::Runtime => runtime::apply(setup).await,
        StepId::Companions => companions::apply(setup).await,
        StepId::Terms => terms::apply(setup),
        StepId::Model => model::apply(setup).await,
        StepId::Settings => settings::apply(setup),
        StepId::Server => server::apply(setup).await,
        StepId::Smoke => smoke::apply(setup).await,
    }
}
