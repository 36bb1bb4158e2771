//! Finds releases in a catalog that are not installed: for `upgrade --check`, and for the notices of `status` and
//! `doctor`.

use gem_platform::Target;
use serde::Serialize;
use std::path::{Path, PathBuf};

use super::release;
use super::state::State;
use super::upgrade::new_hosted_models;
use super::{Setup, Site};
use crate::catalog::{Catalog, CatalogKey, Model, Signed};
use crate::error::Failure;
use crate::layout::Layout;
use crate::place;
use crate::router::{DeliveredModels, Models};
use crate::runtime::RuntimeName;
use crate::version::is_newer;

/// A part that can be upgraded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Offer {
    /// `runtime`, `model`, `self` or `hosted-models`.
    pub what: &'static str,
    /// The part's name.
    pub name: String,
    /// The current version.
    pub from: Option<String>,
    /// The version in the catalog.
    pub to: String,
}

impl Offer {
    /// The offer and its command with `options`, in one line.
    #[must_use]
    pub fn in_words(&self, options: &str) -> String {
        let Self { what, name, from, to } = self;
        let from = from.as_deref().unwrap_or("of unknown version");
        format!("{name} {to} is available, {from} is in use: run `gem-setup upgrade --{what}{options}`")
    }
}

/// The upgrades that the catalog of `setup` offers, the hosted models only if wanted.
///
/// # Errors
/// When the catalog's models file is refused ([`new_hosted_models`]).
pub fn offers(setup: &Setup<'_>, with_hosted_models: bool) -> Result<Vec<Offer>, Failure> {
    let Site {
        layout,
        catalog,
        target,
        ..
    } = &setup.site;
    let mut offers = in_catalog(layout, &setup.state, catalog, *target);
    if with_hosted_models {
        offers.extend(new_hosted_models(setup)?.map(|new| of_hosted_models(new.from, new.to)));
    }
    Ok(offers)
}

/// The upgrades in the last signed catalog; empty if there is none that `key` signed.
#[must_use]
pub fn known_offers(layout: &Layout, state: &State, key: &CatalogKey, target: Target) -> Vec<Offer> {
    let catalog = Signed::read(&layout.signed_catalog_file(), key).and_then(|signed| signed.catalog().ok());
    let Some(catalog) = catalog else { return Vec::new() };
    let mut offers = in_catalog(layout, state, &catalog, target);
    offers.extend(known_hosted_models(layout, &catalog));
    offers
}

/// The hosted models of the last signed catalog, if they are newer than the current ones. `upgrade` explains why others
/// are refused.
fn known_hosted_models(layout: &Layout, catalog: &Catalog) -> Option<Offer> {
    let (catalog, text) = (String::new(), catalog.hosted_models()?.to_owned());
    let new = DeliveredModels { catalog, text }.models().ok()?;
    let in_use = Models::delivered_in(&layout.hosted_models_file()).ok()?;
    let is_new = in_use.is_older_than(new.version());
    is_new.then(|| of_hosted_models(in_use.version().to_owned(), new.version().to_owned()))
}

fn of_hosted_models(from: String, to: String) -> Offer {
    Offer {
        what: "hosted-models",
        name: "models file".to_owned(),
        from: Some(from),
        to,
    }
}

fn in_catalog(layout: &Layout, state: &State, catalog: &Catalog, target: Target) -> Vec<Offer> {
    let runtime = state.chosen.runtime;
    let entry = catalog.runtime(runtime.as_str());
    let entry = entry.filter(|_| release::replaces(layout, state, catalog, runtime, target));
    let in_use = state.version.as_deref().unwrap_or_default();
    let entry = entry.filter(|entry| !is_newer(in_use, &entry.version));
    let of_runtime = entry.map(|entry| Offer {
        what: "runtime",
        name: runtime.to_string(),
        from: state.version.clone(),
        to: entry.version.clone(),
    });
    let own = catalog
        .own()
        .filter(|entry| is_newer(&entry.version, env!("CARGO_PKG_VERSION")));
    let of_self = own.filter(|entry| entry.artifact(target).is_some()).map(|entry| Offer {
        what: "self",
        name: "gem-setup".to_owned(),
        from: Some(env!("CARGO_PKG_VERSION").to_owned()),
        to: entry.version.clone(),
    });
    let model = catalog.model(state.chosen.model.as_str());
    let is_known = runtime == RuntimeName::LitertLm && state.model_edition().is_some();
    let other = model.filter(|model| is_known && !state.has_model(layout, model));
    let of_model = other.and_then(Model::version).map(|to| Offer {
        what: "model",
        name: state.chosen.model.to_string(),
        from: state.model_version(layout, state.chosen.model.as_str(), state.model_source.as_ref()),
        to,
    });
    of_runtime.into_iter().chain(of_model).chain(of_self).collect()
}

/// Writes the text of `signed` to a file next to the record `kept`: the catalog of an upgrade.
///
/// # Errors
/// When it cannot be written.
pub fn unpack_signed(kept: &Path, signed: &Signed) -> Result<PathBuf, Failure> {
    let file = kept.with_extension("toml");
    place::write_private(&file, signed.text.as_bytes()).map_err(|error| Failure::cannot_at("write", &file, &error))?;
    Ok(file)
}
