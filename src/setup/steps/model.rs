//! The model: pulled once by `lit`, or downloaded for `litert-lm` to import.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::model_name::unknown;
use crate::catalog::Model;
use crate::error::{Failure, Kind};
use crate::fetch::address_of;
use crate::progress::Size;
use crate::runtime::litert_lm::check_model_file;
use crate::runtime::terms::Terms;
use crate::runtime::{Error, RuntimeName};
use crate::setup::bundled_model::{BundledModel, has_file, is_unpacked};
use crate::setup::check::{Check, Fix, Subject};
use crate::setup::obstacle::{Use, download_needs};
use crate::setup::step::Inspection;
use crate::setup::{Condition, Setup, is_offered, model_file, shown};
use crate::sha256::Sha256;
use crate::shell;

const CHECK: Subject = Subject::new("model.present", "model pulled");

pub(super) async fn inspect(setup: &Setup<'_>) -> Inspection {
    if setup.wanted.chosen.runtime == RuntimeName::Builtin {
        let reason = "the builtin runtime needs no model";
        let inspection = Inspection::not_needed(reason, vec![CHECK.skip(reason)]);
        return match unknown(setup).await {
            Some(failure) => inspection.blocked_by(failure),
            None => inspection,
        };
    }
    if !setup.wanted.with_model {
        let reason = "no model wanted (--no-model)";
        return Inspection::not_needed(reason, vec![CHECK.skip(reason)]);
    }
    let plan = plan(setup);
    let unusable = unusable_file(setup).map(Failure::from);
    let unusable = unusable.or_else(|| unbundled(setup)).or_else(|| without_source(setup));
    let unusable = match unusable {
        Some(failure) => Some(failure),
        None => unknown(setup).await,
    };
    let inspection = look_for(setup, plan).await;
    match unusable {
        Some(failure) if matches!(inspection.condition, Condition::Needed(_)) => inspection.blocked_by(failure),
        _ => inspection,
    }
}

/// Why the given model file cannot be imported.
pub(in crate::setup) fn unusable_file(setup: &Setup<'_>) -> Option<Error> {
    let file = setup.wanted.chosen.model_file.as_deref()?;
    if setup.wanted.chosen.runtime == RuntimeName::Lit {
        return Some(Error::Unsuitable {
            runtime: RuntimeName::Lit,
            reason: "cannot import a model file".to_owned(),
        });
    }
    check_model_file(file).err()
}

/// Why the model cannot come from the chosen bundle; no other source is allowed.
fn unbundled(setup: &Setup<'_>) -> Option<Failure> {
    let choices = &setup.wanted.chosen;
    let bundle = choices.bundle.as_ref()?;
    if choices.model_file.is_some() || bundled(setup).is_some() {
        return None;
    }
    if !bundle.is_dir() && !is_unpacked(&choices.mirrors) {
        // The content of a packed bundle is unknown until it is unpacked again.
        return setup.closed_bundle(bundle);
    }
    let is_for_litert_lm = choices.runtime == RuntimeName::LitertLm;
    let source = setup.model().huggingface.filter(|_| is_for_litert_lm);
    let address = source.and_then(|source| address_of(&source).ok());
    if address.is_some_and(|url| has_file(&choices.mirrors, url.path())) {
        return None;
    }
    let message = format!(
        "the model `{}` is not in the bundle `{}`",
        choices.model,
        bundle.display()
    );
    let bundle = bundle.as_os_str();
    let words = ["gem-setup", "install", "--no-model", "--bundle"].map(OsStr::new);
    let without = shell::line(setup.site.os(), words.into_iter().chain([bundle]));
    let with_file = match is_for_litert_lm {
        true => "; `--model-file FILE` instead imports a file of yours".to_owned(),
        false => String::new(),
    };
    let hint = format!(
        "run `{without}`{with_file}; or make the bundle again, on a machine with internet, with `gem-setup bundle create PLACE --model --target {}`",
        setup.site.target
    );
    Some(Failure::new(Kind::Usage, message).with_hint(hint))
}

/// Why the model cannot be downloaded for `litert-lm`: its address or its hash is unknown.
fn without_source(setup: &Setup<'_>) -> Option<Failure> {
    let choices = &setup.wanted.chosen;
    if choices.runtime != RuntimeName::LitertLm || choices.model_file.is_some() || bundled(setup).is_some() {
        return None;
    }
    let Some(source) = setup.model().huggingface else {
        let message = format!(
            "cannot get the model `{}` for `litert-lm`: the catalog has no address of it",
            choices.model
        );
        let others = match is_offered(&setup.site.catalog, RuntimeName::Lit, setup.site.target) {
            true => "`--runtime lit` or `--runtime builtin`",
            false => "`--runtime builtin`",
        };
        let hint = format!("import a file of yours with `--model-file FILE`, or choose another runtime with {others}");
        return Some(Failure::new(Kind::Usage, message).with_hint(hint));
    };
    if source.sha256.is_some() {
        return None;
    }
    let checked = address_of(&source).and_then(|url| setup.tools.fetcher.check_stated(&url));
    checked.err().map(Failure::from)
}

/// Why the imported file must be imported again: it has changed since, or this call names another file.
fn fault_of_file(setup: &Setup<'_>) -> Option<String> {
    let name = &setup.wanted.chosen.model;
    let imported = setup.site.layout.model_file(name);
    let recorded = setup.state.placed(&imported);
    let known = setup.state.hash_of(&imported).filter(|_| !setup.wanted.verify);
    if recorded.is_some() && known.or_else(|| Sha256::of_file(&imported).ok()) != recorded {
        return Some(format!("the file of `{name}` has been changed since it was imported"));
    }
    let given = setup.wanted.chosen.model_file.as_deref();
    let given = given.filter(|_| setup.wanted.compare_file)?;
    let size = |path: &Path| std::fs::metadata(path).ok().map(|metadata| metadata.len());
    let is_same = size(given)? == size(&imported)?
        && Sha256::of_file(given).ok()? == recorded.or_else(|| Sha256::of_file(&imported).ok())?;
    (!is_same).then(|| format!("`{name}` was imported from another file than {}", shown(given)))
}

async fn look_for(setup: &Setup<'_>, plan: String) -> Inspection {
    let name = &setup.wanted.chosen.model;
    let Ok(runtime) = setup.runtime() else {
        return Inspection::needed(plan, vec![CHECK.skip("there is no runtime to ask")]);
    };
    if !setup.site.is_for_this_machine() || !runtime.program().is_some_and(Path::exists) {
        return Inspection::needed(plan, vec![unasked(setup)]);
    }
    match setup.listing().await {
        Ok(text) if name.is_in(&text) && waiting_file(setup).exists() => {
            let detail = format!("the import of `{name}` was cut short");
            Inspection::needed(plan, vec![CHECK.fail(detail, Fix::repair())])
        }
        Ok(text) if name.is_in(&text) => match fault_of_file(setup) {
            Some(detail) => Inspection::needed(plan, vec![CHECK.fail(detail, Fix::repair())]),
            None => {
                let detail = format!("`{name}` is installed");
                Inspection::in_place(detail.clone(), vec![CHECK.ok(detail)])
            }
        },
        Ok(_) => {
            let check = CHECK.fail(missing(setup), Fix::repair());
            Inspection::needed(plan, vec![check])
        }
        // The runtime step explains why the runtime cannot be asked.
        Err(reason) => Inspection::needed(plan, vec![CHECK.skip(format!("cannot ask the runtime: {reason}"))]),
    }
}

/// The path at which a downloaded file waits for its import. If it is still there, the import is incomplete.
fn waiting_file(setup: &Setup<'_>) -> PathBuf {
    model_file::waiting(&setup.site.layout.downloads(), &setup.wanted.chosen.model)
}

/// The model's directory and file, and what is written before an import.
pub(in crate::setup) fn model_needs(setup: &Setup<'_>) -> Vec<(PathBuf, Use)> {
    let (layout, name) = (&setup.site.layout, &setup.wanted.chosen.model);
    let mut needs = vec![
        (layout.models(), Use::Directory),
        (layout.models().join(name), Use::Directory),
        (layout.model_file(name), Use::Replace),
    ];
    if setup.wanted.chosen.runtime == RuntimeName::LitertLm && bundled(setup).is_none() {
        needs.extend([
            (layout.downloads(), Use::Directory),
            (waiting_file(setup), Use::Replace),
        ]);
        let source = setup
            .model()
            .huggingface
            .filter(|_| setup.wanted.chosen.model_file.is_none());
        let sha256 = source.and_then(|source| source.sha256);
        needs.extend(sha256.into_iter().flat_map(|sha256| download_needs(layout, sha256)));
    }
    needs
}

/// Why the runtime does not have the model: it was never pulled, or a pull was interrupted.
fn missing(setup: &Setup<'_>) -> String {
    let name = &setup.wanted.chosen.model;
    let directory = setup.site.layout.models().join(name);
    match size_of(&directory) {
        0 if directory.exists() => format!(
            "the runtime does not list `{name}`, and its file is not in {}",
            shown(&directory)
        ),
        0 => format!("the runtime does not list `{name}`"),
        bytes => format!(
            "a pull of `{name}` was cut short: {} of it are in {}",
            Size(bytes),
            shown(&directory)
        ),
    }
}

/// The size of `directory` in bytes, without what a runtime keeps there to start faster.
fn size_of(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| !entry.file_name().to_string_lossy().contains("cache"))
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .map(|(path, metadata)| {
            if metadata.is_dir() {
                size_of(&path)
            } else {
                metadata.len()
            }
        })
        .sum()
}

/// Without a runtime that lists models, only a missing model is certain.
fn unasked(setup: &Setup<'_>) -> Check {
    let directory = setup.site.layout.models().join(&setup.wanted.chosen.model);
    if setup.site.is_for_this_machine() && !directory.exists() {
        return CHECK.fail(format!("{} is missing", shown(&directory)), Fix::repair());
    }
    CHECK.skip("there is no runtime to ask")
}

fn plan(setup: &Setup<'_>) -> String {
    let model = setup.model();
    if let Some(file) = &setup.wanted.chosen.model_file {
        return format!("import `{}` as `{}`", file.display(), model.name);
    }
    if let Some(bundled) = bundled(setup) {
        return format!("copy the model `{}` from {}", model.name, shown(bundled.bundle()));
    }
    let size = if model.size > 0 {
        format!(" ({})", Size(model.size))
    } else {
        String::new()
    };
    let verb = if setup.wanted.chosen.runtime == RuntimeName::LitertLm {
        "download"
    } else {
        "pull"
    };
    format!("{verb} the model `{}`{size}", model.name)
}

/// The model's files in a bundle that was given as a mirror. A given file is preferred.
fn bundled(setup: &Setup<'_>) -> Option<BundledModel> {
    let choices = &setup.wanted.chosen;
    let is_wanted = choices.model_file.is_none();
    BundledModel::find(&choices.mirrors, choices.model.as_str()).filter(|_| is_wanted)
}

/// Copies the model from a bundle; `false` if the runtime then does not list it.
async fn copy(setup: &mut Setup<'_>, bundled: BundledModel) -> Result<bool, Failure> {
    let models = setup.site.layout.models();
    let copied = tokio::task::spawn_blocking(move || bundled.copy_to(&models)).await;
    copied.map_err(|error| Failure::cannot("copy the model", error))??;
    setup.forget_listing();
    let listing = setup.listing().await;
    Ok(listing.is_ok_and(|text| setup.wanted.chosen.model.is_in(&text)))
}

pub(super) async fn apply(setup: &mut Setup<'_>) -> Result<String, Failure> {
    let model = setup.model();
    if super::terms::not_needed(setup).is_none() && !Terms::read(&setup.site.layout.terms_file())?.cover(&model) {
        // The terms step comes first; without its record, no caller may pull.
        return Err(Failure::new(
            Kind::TermsNotAccepted,
            format!("the terms of the model `{}` have not been accepted", model.name),
        )
        .with_hint("run the command again with `--accept-terms`"));
    }
    claim(setup)?;
    if let Some(bundled) = bundled(setup) {
        let from = shown(bundled.bundle());
        if copy(setup, bundled).await? {
            return Ok(format!("copied `{}` from {from}", model.name));
        }
        setup.tools.progress.note(
            "model",
            &format!("the runtime does not list the copy from {from}; pulling the model"),
        );
    }
    match setup.wanted.chosen.model_file.clone() {
        Some(file) => import(setup, &model, file).await,
        None if setup.wanted.chosen.runtime == RuntimeName::LitertLm => download(setup, &model).await,
        None => {
            hand_over(setup, &model, None).await?;
            Ok(format!("pulled `{}`", model.name))
        }
    }
}

/// Lets the runtime import a copy of the given `file`. It may import by a hard link, and a later change of the user's
/// file must not reach the model.
async fn import(setup: &mut Setup<'_>, model: &Model, file: PathBuf) -> Result<String, Failure> {
    let copy = waiting_file(setup);
    let (from, to) = (file.clone(), copy.clone());
    let copied = tokio::task::spawn_blocking(move || model_file::copy(&from, &to)).await;
    let sha256 = copied.map_err(|error| Failure::cannot("copy the model file", error))??;
    hand_over(setup, model, Some(&copy)).await?;
    let from = shown(&file);
    let (news, is_expected) = (format!("the content of {from} has changed"), setup.wanted.compare_file);
    note_imported(setup, model, &copy, sha256, &news, is_expected)?;
    Ok(format!(
        "imported `{}` from a copy of {from} (SHA-256 {sha256})",
        model.name
    ))
}

/// Records the hash of the imported model, then deletes `waiting`, the file that was imported. If another hash was
/// recorded, a note says that there is `news`, unless that `is_expected`.
fn note_imported(
    setup: &mut Setup<'_>,
    model: &Model,
    waiting: &Path,
    sha256: Sha256,
    news: &str,
    is_expected: bool,
) -> Result<(), Failure> {
    let imported = setup.site.layout.model_file(&model.name);
    let former = setup.state.placed(&imported).filter(|known| *known != sha256);
    if let Some(known) = former.filter(|_| !is_expected) {
        let note = format!("{news}: SHA-256 {sha256}, formerly {known}");
        setup.tools.progress.note("model", &note);
    }
    setup.state.remember_hash(&imported, sha256);
    setup.state.write(&setup.site.layout.state_file())?;
    std::fs::remove_file(waiting).map_err(|error| Failure::cannot_at("remove", waiting, &error))
}

/// Lets the runtime pull `model`, or import `file`.
async fn hand_over(setup: &mut Setup<'_>, model: &Model, file: Option<&Path>) -> Result<(), Failure> {
    let pulled = setup.runtime()?.pull(model, file, setup.tools.progress).await;
    setup.forget_listing();
    pulled.map_err(|error: Error| Failure::from(error))
}

/// Downloads the file of `model`, lets the runtime import it, and records the file's hash.
async fn download(setup: &mut Setup<'_>, model: &Model) -> Result<String, Failure> {
    let Some(source) = &model.huggingface else {
        hand_over(setup, model, None).await?;
        return Ok(format!("imported `{}`", model.name));
    };
    let (file, tools) = (waiting_file(setup), &setup.tools);
    let fetched = model_file::download(&tools.fetcher, model, source, file.clone(), "model", tools.progress);
    let sha256 = fetched.await?;
    hand_over(setup, model, Some(&file)).await?;
    let news = format!("the hub now has another file for `{}`", model.name);
    note_imported(setup, model, &file, sha256, &news, source.sha256.is_some())?;
    Ok(format!(
        "downloaded `{}` (SHA-256 {sha256}) and imported it",
        model.name
    ))
}

/// Records, before the pull, that gem-setup may delete the model, because a pull may be interrupted. A model that was
/// already present is not recorded.
fn claim(setup: &mut Setup<'_>) -> Result<(), Failure> {
    let name = &setup.wanted.chosen.model;
    if !setup.state.pulled.contains(name) && !setup.site.layout.models().join(name).exists() {
        setup.state.pulled.push(name.clone());
        setup.state.write(&setup.site.layout.state_file())?;
    }
    Ok(())
}
