//! Whether a model of the wanted name exists, as far as catalog and runtime know.

use std::path::Path;

use crate::error::{Failure, Kind};
use crate::runtime::{LocalModelName, RuntimeName};
use crate::setup::Setup;
use crate::setup::bundled_model::BundledModel;

/// How much alike two names are of which one may be meant.
const ALIKE: f64 = 0.85;

/// Why the wanted model cannot be a model: neither the catalog nor the runtime has the name. A name that is on record was
/// judged before.
pub(in crate::setup) async fn unknown(setup: &Setup<'_>) -> Option<Failure> {
    let (chosen, site) = (&setup.wanted.chosen, &setup.site);
    let name = &chosen.model;
    let is_usual = *name == LocalModelName::default() || *name == setup.state.chosen.model;
    let is_there = site.is_for_this_machine() && site.layout.models().join(name).exists();
    let is_known = is_usual || is_there || site.catalog.model(name.as_str()).is_some();
    let is_given = || chosen.model_file.is_some() || BundledModel::find(&chosen.mirrors, name.as_str()).is_some();
    if is_known || !setup.wanted.with_model || is_given() {
        return None;
    }
    match chosen.runtime {
        RuntimeName::Lit => {}
        // The built-in classifier answers under any name, but Gemini CLI would not ask for this one.
        RuntimeName::LitertLm | RuntimeName::Builtin => return Some(failure(setup, "")),
    }
    let runtime = setup.runtime().ok()?;
    if !site.is_for_this_machine() || !runtime.program().is_some_and(Path::exists) {
        // The installed runtime will know.
        return None;
    }
    // The runtime step says why a runtime cannot be asked.
    let registry = runtime.list(true).await.ok()?;
    // One that lists the same without the option shows no registry.
    let shows_registry = setup.listing().await.is_ok_and(|models| models != registry);
    (shows_registry && !name.is_in(&registry)).then(|| failure(setup, &registry))
}

/// The failure, with the names that there are; `registry` is the runtime's list.
fn failure(setup: &Setup<'_>, registry: &str) -> Failure {
    let (name, runtime) = (&setup.wanted.chosen.model, setup.wanted.chosen.runtime);
    let known: Vec<&str> = setup.site.catalog.model_names().collect();
    let likeness = |other: &str| strsim::jaro_winkler(name.as_str(), other);
    let likely = known.iter().copied().chain(registry.split_whitespace());
    let likely = likely.filter(|other| likeness(other) > ALIKE);
    let hint = match likely.max_by(|one, other| likeness(one).total_cmp(&likeness(other))) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if known.is_empty() => "the catalog has no model".to_owned(),
        None => format!("the catalog has `{}`", known.join("`, `")),
    };
    let others = match runtime {
        RuntimeName::Lit => "; `gem-setup list --show-all` lists those of the runtime",
        RuntimeName::LitertLm => "; `--model-file FILE` imports a file of yours under this name",
        RuntimeName::Builtin => "",
    };
    let owner = match registry.is_empty() {
        true => "the catalog has no model".to_owned(),
        false => format!("neither the catalog nor the runtime `{runtime}` has a model"),
    };
    Failure::new(Kind::Usage, format!("{owner} `{name}`")).with_hint(format!("{hint}{others}"))
}
