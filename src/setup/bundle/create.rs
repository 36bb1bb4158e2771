//! Creates a bundle, as a directory or a tar file.

use std::fs;
use std::path::Path;

use gem_platform::Target;

use super::check::check_marked;
use super::claim::{Claim, check_file};
use super::contents::Sums;
use super::faults::unwritable;
use super::making::{Making, model_of};
use super::request::{Bundle, BundleRequest, BundleTools, BundledFile, ModelRequest};
use super::{archive, programs, signature};
use crate::error::{Failure, Kind};
use crate::runtime::RuntimeName;
use crate::runtime::gate::needs_no_terms;
use crate::runtime::litert_lm::check_model_file;
use crate::runtime::terms::{Terms, in_words};
use crate::setup::auto::{is_offered, offered};
use crate::setup::converge::lock_home;

/// Creates the bundle. Correct files that already exist are not fetched again.
///
/// # Errors
/// When a target has no build, a file cannot be fetched, the model's terms are not accepted, or the place contains
/// something else.
pub async fn create_bundle(request: &BundleRequest, tools: &BundleTools<'_>) -> Result<Bundle, Failure> {
    check_name(&request.place)?;
    programs::check(&request.programs, &request.targets)?;
    let secret = request.key.as_deref().map(signature::read_key).transpose()?;
    let runtimes = request
        .targets
        .iter()
        .map(|target| Ok((*target, runtime_for(request, tools, *target)?)));
    let runtimes: Vec<_> = runtimes.collect::<Result<_, Failure>>()?;
    if let Some(model) = &request.model {
        check_model(model, &runtimes)?;
        accept_terms(request, tools, model).await?;
    }
    let is_file = request.place.extension().is_some_and(|extension| extension == "tar");
    let root = if is_file {
        check_file(&request.place)?;
        request.place.with_extension("tar.files")
    } else {
        request.place.clone()
    };
    let mut making = Making {
        claim: Claim::begin(root, is_file)?,
        sums: Sums::default(),
        secret,
        request,
        tools,
    };
    let made = make(&mut making, &runtimes, is_file).await;
    if is_file && made.is_ok() {
        making.claim.delete_scratch()?;
    }
    made
}

/// The suffixes of compressed archives. Models and programs hardly shrink, so bundles are not compressed.
const COMPRESSED: [&str; 12] = [
    ".gz", ".tgz", ".zst", ".tzst", ".xz", ".txz", ".bz2", ".tbz", ".tbz2", ".lz4", ".zip", ".7z",
];

/// Refuses a name that looks like a compressed archive, because it would become a directory, and one that the printed
/// commands and the JSON could not name.
fn check_name(place: &Path) -> Result<(), Failure> {
    if place.to_str().is_none() {
        let message = format!("cannot make the bundle `{}`: its path is not UTF-8", place.display());
        return Err(Failure::new(Kind::Usage, message).with_hint("name another place"));
    }
    let name = place.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let Some(end) = COMPRESSED.iter().find(|end| name.ends_with(**end)) else {
        return Ok(());
    };
    let message = format!(
        "cannot make the bundle `{}`: `{end}` is the suffix of a compressed file, but a bundle is a directory or a \
        `.tar` file",
        place.display()
    );
    let stem = name.len() - end.len();
    let stem = name.get(..stem).unwrap_or_default().trim_end_matches(".tar");
    let hint = format!("name it `{stem}.tar`, or name a directory without `{end}`");
    Err(Failure::new(Kind::Usage, message).with_hint(hint))
}

/// Fills and checks the bundle, and writes the tar file if one is wanted.
async fn make(making: &mut Making<'_>, runtimes: &[(Target, RuntimeName)], is_file: bool) -> Result<Bundle, Failure> {
    let targets = making.fill(runtimes).await?;
    let public_key = making.seal()?;
    let (root, place) = (&making.claim.root, &making.request.place);
    // Still marked, so that the next call can continue if files are to be deleted first.
    check_marked(root).map_err(|failure| {
        failure.with_hint(
            "delete the files that do not belong there, or choose an empty directory, then run the command again",
        )
    })?;
    if is_file {
        let part = making.claim.unfinished();
        let written = archive::write(root, &making.sums, &part).and_then(|()| fs::rename(&part, place));
        written.map_err(|error| unwritable(place, &error))?;
    } else {
        making.share();
        making.claim.finish()?;
    }
    let files = making.sums.iter();
    Ok(Bundle {
        bundle: place.clone(),
        targets,
        public_key,
        files: files
            .map(|(path, sha256)| BundledFile {
                path: path.to_owned(),
                sha256,
            })
            .collect(),
    })
}

/// The bundle's runtime for `target`. If the user has chosen none and there is no pulled model to include, a runtime
/// whose model can be downloaded.
fn runtime_for(request: &BundleRequest, tools: &BundleTools<'_>, target: Target) -> Result<RuntimeName, Failure> {
    let has = |runtime: &RuntimeName| is_offered(&request.catalog, *runtime, target);
    if let Some(runtime) = request.runtime {
        return Some(runtime).filter(has).ok_or_else(|| {
            let message = format!("cannot bundle `{runtime}` for {target}: no build is published");
            let hint = "leave out the target or `--runtime`; `--runtime builtin` needs only gem-setup";
            Failure::new(Kind::Unsupported, message).with_hint(hint)
        });
    }
    if let Some(runtime) = request.preferred.filter(has) {
        return Ok(runtime);
    }
    let runtime = offered(&request.catalog, target).runtime;
    let is_pulled = |model: &ModelRequest| model.file.is_none() && tools.layout.models().join(&model.name).exists();
    let is_wanting = request.model.as_ref().is_some_and(|model| !is_pulled(model));
    let is_better = runtime == RuntimeName::Lit && is_wanting && has(&RuntimeName::LitertLm);
    Ok(if is_better { RuntimeName::LitertLm } else { runtime })
}

/// Fails if no platform's runtime can use the model, or the given file is not a model.
fn check_model(wanted: &ModelRequest, runtimes: &[(Target, RuntimeName)]) -> Result<(), Failure> {
    let has_models = |(_, runtime): &&(Target, RuntimeName)| runtime.has_models();
    let runtime = runtimes
        .iter()
        .find(has_models)
        .map_or(RuntimeName::Builtin, |(_, it)| *it);
    let action = format_args!("bundle the model `{}`", wanted.name);
    runtime.require_model(action, "leave the model out, or add `--runtime litert-lm`")?;
    Ok(wanted.file.as_deref().map_or(Ok(()), check_model_file)?)
}

/// Makes sure that the model's terms are accepted before any part of it is downloaded.
async fn accept_terms(request: &BundleRequest, tools: &BundleTools<'_>, wanted: &ModelRequest) -> Result<(), Failure> {
    let model = model_of(&request.catalog, &wanted.name);
    if needs_no_terms(RuntimeName::LitertLm, &model, wanted.file.is_some()) {
        return Ok(());
    }
    let path = tools.layout.terms_file();
    if Terms::read(&path)?.cover(&model) {
        return Ok(());
    }
    if let Some(how) = wanted.accepted {
        let _lock = lock_home(tools.layout, "terms", tools.progress).await?;
        return Ok(Terms::read(&path)?.accept(&path, &model, jiff::Timestamp::now(), how)?);
    }
    let message = format!(
        "cannot bundle the model `{}`: its terms have not been accepted: {}",
        wanted.name,
        in_words(&model)
    );
    Err(Failure::new(Kind::TermsNotAccepted, message)
        .with_hint("read them, then run the command again with `--accept-terms`"))
}
