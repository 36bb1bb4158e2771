//! The runtime's executable: present, unchanged, executable, and able to load its libraries.

use std::io;
use std::path::{Path, PathBuf};

use gem_platform::file;
use gem_platform::probe::{LibraryError, load_library, volume};
use gem_platform::{Effect, Os, Recipe};

use super::litert_lm;
use super::runtime_checks::{BINARY, CHECKSUM, EXECUTABLE, LOADER};
use crate::catalog::Artifact;
use crate::error::{Failure, Kind};
use crate::fetch::Request;
use crate::place;
use crate::progress::Size;
use crate::runtime::RuntimeName;
use crate::setup::check::{Check, Fix, Subject};
use crate::setup::obstacle::{Use, download_needs};
use crate::setup::state::State;
use crate::setup::step::Inspection;
use crate::setup::{Condition, Setup, shown};
use crate::sha256::Sha256;
use crate::shell;

const ASK_DOCTOR: &str = "correct what its error names; `gem-setup doctor` checks the runtime's requirements";
const QUARANTINE: Subject = Subject::new("platform.quarantine", "macOS quarantine");

pub(super) async fn inspect(setup: &Setup<'_>) -> Inspection {
    match setup.wanted.chosen.runtime {
        RuntimeName::Builtin => {
            let reason = "the builtin runtime is part of gem-setup";
            let mut checks = vec![BINARY.skip(reason)];
            checks.extend(skipped(reason));
            Inspection::not_needed(reason, checks)
        }
        RuntimeName::Lit => inspect_lit(setup).await,
        RuntimeName::LitertLm => litert_lm::inspect(setup).await,
    }
}

fn artifact<'a>(setup: &'a Setup<'_>) -> Option<&'a Artifact> {
    setup.site.catalog.runtime("lit")?.artifact(setup.site.target)
}

/// The size of the remaining download in bytes, as far as the catalog states it.
pub(super) fn missing_bytes(setup: &Setup<'_>) -> u64 {
    match setup.wanted.chosen.runtime {
        RuntimeName::Builtin => 0,
        RuntimeName::LitertLm => litert_lm::missing_bytes(setup),
        RuntimeName::Lit if setup.site.lit_path().is_some_and(|path| path.exists()) => 0,
        RuntimeName::Lit => artifact(setup).map_or(0, |artifact| artifact.size),
    }
}

async fn inspect_lit(setup: &Setup<'_>) -> Inspection {
    let Some((artifact, path)) = artifact(setup).zip(setup.site.lit_path()) else {
        let reason = "no build for this platform";
        return Inspection::needed("find another runtime", vec![BINARY.skip(reason)]);
    };
    let plan = format!(
        "download {} ({}) to {}",
        setup.first_source(&artifact.url),
        size_of(artifact),
        shown(&path)
    );
    if !setup.site.is_for_this_machine() {
        return Inspection::needed(plan, Vec::new());
    }
    match std::fs::metadata(&path) {
        // A file in a directory's place is the fault of the home.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            missing(&path, plan)
        }
        Err(error) => unreadable(&path, plan, &error),
        Ok(metadata) => match file::check_regular(metadata.file_type()) {
            Ok(()) => if_it_runs(setup, &path, inspect_file(setup, artifact, &path, plan)).await,
            Err(error) => in_the_way(&path, plan, &error),
        },
    }
}

/// The files that are written when `lit` is downloaded, or made executable.
pub(in crate::setup) fn lit_needs(setup: &Setup<'_>) -> Vec<(PathBuf, Use)> {
    let Some((artifact, path)) = artifact(setup).zip(setup.site.lit_path()) else {
        return Vec::new();
    };
    if is_present(setup, artifact, &path) {
        return vec![(path.clone(), Use::Permit), (path, Use::Run)];
    }
    let mut needs = vec![(path, Use::Replace)];
    needs.extend(download_needs(&setup.site.layout, artifact.sha256));
    needs
}

/// Whether the file `path` need not be downloaded. One that this user cannot read is recognised by the record.
fn is_present(setup: &Setup<'_>, artifact: &Artifact, path: &Path) -> bool {
    let known = setup.state.hash_of(path).filter(|_| !setup.wanted.verify);
    let found = known.or_else(|| Sha256::of_file(path).ok());
    !setup.wanted.force && found == Some(artifact.sha256)
}

fn size_of(artifact: &Artifact) -> String {
    match artifact.size {
        0 => "size unknown".to_owned(),
        size => Size(size).to_string(),
    }
}

/// The skipped checks that need the file.
fn skipped(reason: &str) -> [Check; 3] {
    [CHECKSUM, EXECUTABLE, QUARANTINE].map(|subject| subject.skip(reason))
}

fn missing(path: &Path, plan: String) -> Inspection {
    let mut checks = vec![BINARY.fail(format!("{} is missing", shown(path)), Fix::repair())];
    checks.extend(skipped("the runtime is missing"));
    Inspection::needed(plan, checks)
}

fn unreadable(path: &Path, plan: String, error: &io::Error) -> Inspection {
    let detail = format!("{} cannot be read: {error}", shown(path));
    let mut checks = vec![BINARY.fail(detail, Fix::by_hand(place::remedy(path, error)))];
    checks.extend(skipped("the runtime cannot be read"));
    Inspection::needed(plan, checks)
}

fn in_the_way(path: &Path, plan: String, error: &io::Error) -> Inspection {
    let detail = format!("{} cannot be the runtime's executable: {error}", shown(path));
    let fix = format!(
        "move {} somewhere else, then run `gem-setup install` again",
        shown(path)
    );
    let failure = Failure::new(Kind::Download, format!("cannot install the runtime: {detail}")).with_hint(fix.clone());
    let mut checks = vec![BINARY.fail(detail, Fix::by_hand(fix))];
    checks.extend(skipped("the runtime is missing"));
    Inspection::needed(plan, checks).blocked_by(failure)
}

fn inspect_file(setup: &Setup<'_>, artifact: &Artifact, path: &Path, plan: String) -> Inspection {
    let known = setup.state.hash_of(path).filter(|_| !setup.wanted.verify);
    let found = match known.map_or_else(|| Sha256::of_file(path), Ok) {
        Ok(found) => found,
        Err(error) => return unreadable(path, plan, &error),
    };
    let mut checks = vec![BINARY.ok(shown(path))];
    if found != artifact.sha256 {
        let detail = format!(
            "{} has the SHA-256 {found}, but the catalog has {}",
            shown(path),
            artifact.sha256
        );
        // Without this option, a repair would trust the file's size and time again.
        let fix = if setup.wanted.verify {
            Fix::run("doctor --fix --verify")
        } else {
            Fix::repair()
        };
        checks.push(CHECKSUM.fail(detail, fix));
        checks.extend(skipped("the runtime has a wrong hash").into_iter().skip(1));
        return Inspection::needed(plan, checks);
    }
    checks.push(CHECKSUM.ok(format!("SHA-256 {found}")));
    let mut effects = Vec::new();
    let recipe = Recipe::of(setup.site.target);
    checks.push(if recipe.has(Effect::ExecutableBit) {
        inspect_executable(path, &mut effects)
    } else {
        EXECUTABLE.ok(format!("{} needs no executable bit", setup.site.os()))
    });
    checks.push(if recipe.has(Effect::StripQuarantine) {
        inspect_quarantine(path, &mut effects)
    } else {
        QUARANTINE.skip(format!("{} is not quarantined", setup.site.os()))
    });
    if effects.is_empty() {
        Inspection::in_place(format!("{} is in place", shown(path)), checks)
    } else {
        Inspection::needed(effects.join(", "), checks)
    }
}

/// The `inspection`, blocked if the complete runtime does not run: a download would not help, and a model could neither be listed
/// nor pulled.
async fn if_it_runs(setup: &Setup<'_>, path: &Path, inspection: Inspection) -> Inspection {
    if !setup.wanted.with_model || !matches!(inspection.condition, Condition::InPlace(_)) {
        return inspection;
    }
    match setup.listing().await {
        // A slow machine may need longer for its first start, and a file with a wrong hash can be downloaded again.
        Err(reason)
            if !reason.contains("did not answer") && setup.site.check_executable(&setup.wanted.chosen).is_ok() =>
        {
            let message = format!("the runtime {} does not run: {reason}", shown(path));
            inspection.blocked_by(Failure::new(Kind::Runtime, message).with_hint(ASK_DOCTOR))
        }
        _ => inspection,
    }
}

fn inspect_executable(path: &Path, effects: &mut Vec<&'static str>) -> Check {
    if file::is_executable(path).unwrap_or(false) {
        return EXECUTABLE.ok("the executable bit is set");
    }
    effects.push("make it executable");
    if volume(path).is_ok_and(|volume| volume.no_exec) {
        // The check of the place for the runtime reports it.
        return EXECUTABLE.skip("its file system is mounted `noexec`");
    }
    let detail = format!("{} has no executable bit", shown(path));
    EXECUTABLE.fail(
        detail,
        Fix::run_or(
            "doctor --fix",
            format!("`chmod +x {}`", shell::word(Os::Linux, path.as_os_str())),
        ),
    )
}

fn inspect_quarantine(path: &Path, effects: &mut Vec<&'static str>) -> Check {
    match file::quarantine(path) {
        Ok(None) => QUARANTINE.ok("not quarantined"),
        Ok(Some(value)) => {
            effects.push("remove its quarantine");
            let detail = format!("{} is quarantined (`{value}`)", shown(path));
            QUARANTINE.fail(detail, Fix::repair())
        }
        Err(error) => QUARANTINE.skip(format!("cannot be read: {error}")),
    }
}

/// Adds the checks that run the runtime to the step's `checks`. A runtime with a wrong hash is not run, even if its
/// size and time match.
pub(in crate::setup) async fn inspect_use(setup: &Setup<'_>, checks: &mut Vec<Check>) {
    let lit = setup
        .site
        .lit_path()
        .filter(|_| setup.wanted.chosen.runtime == RuntimeName::Lit);
    let is_there = lit.is_some_and(|path| path.exists());
    if is_there && checks.iter().any(|check| check.id == BINARY.id && check.has_failed()) {
        return checks.push(LOADER.skip("the runtime cannot be read"));
    }
    let Err(failure) = setup.site.check_executable(&setup.wanted.chosen) else {
        let loader = said_once(checks, inspect_loader(setup).await);
        return checks.push(loader);
    };
    let checksum = checks.iter_mut().find(|check| check.id == CHECKSUM.id);
    if let Some(check) = checksum.filter(|check| !check.has_failed()) {
        *check = CHECKSUM.fail(failure.message, Fix::run("doctor --fix --verify"));
    }
    checks.push(LOADER.skip("the runtime has a wrong hash"));
}

/// The check `loader`, skipped if another check has named its fault. If `loader` knows what a person must do, the other
/// one is skipped.
fn said_once(checks: &mut [Check], loader: Check) -> Check {
    let mut failed = checks.iter_mut().filter(|check| check.has_failed());
    let Some(binary) = failed
        .find(|check| check.id == BINARY.id)
        .filter(|_| loader.has_failed())
    else {
        return loader;
    };
    let reason = binary.detail.split_once(": ").map(|(_, reason)| reason);
    if !reason.is_some_and(|reason| loader.detail.contains(reason)) {
        return loader;
    }
    if loader.fix.as_ref().is_some_and(Fix::is_repair) {
        return LOADER.skip("the runtime does not run");
    }
    *binary = BINARY.skip(format!("unknown until `{}` is fixed", LOADER.id));
    loader
}

/// Whether the runtime can load the system's libraries. The runtime's own error counts for more than a search for them.
async fn inspect_loader(setup: &Setup<'_>) -> Check {
    if setup.wanted.chosen.runtime == RuntimeName::LitertLm {
        return litert_lm::inspect_loader(setup).await;
    }
    let libraries = Recipe::of(setup.site.target).libraries;
    if setup.wanted.chosen.runtime != RuntimeName::Lit || libraries.is_empty() {
        return LOADER.skip("nothing to load here");
    }
    let missing: Vec<LibraryError> = libraries.iter().filter_map(|name| load_library(name).err()).collect();
    let runs = match setup.site.lit_path() {
        Some(path) if file::is_executable(&path).unwrap_or(false) => Some(setup.listing().await),
        _ => None,
    };
    let fix = package_advice(&missing);
    let absent: Vec<String> = missing.iter().map(ToString::to_string).collect();
    let absent = absent.join("; ");
    match runs {
        Some(Err(reason)) if reason.contains("shared librar") => {
            let detail = reason
                .lines()
                .find(|line| line.contains("shared librar"))
                .unwrap_or(&reason);
            LOADER.fail(detail.trim(), fix)
        }
        Some(Err(reason)) if missing.is_empty() && !reason.contains("Exec format error") => LOADER.fail(
            format!("the runtime does not run: {reason}"),
            Fix::by_hand("correct what its error names"),
        ),
        _ if missing.is_empty() => LOADER.ok(format!("{} can be loaded", libraries.join(" and "))),
        // The file is not a program for this machine, so its libraries are not the cause.
        Some(Err(reason)) if reason.contains("Exec format error") => {
            LOADER.fail(format!("the runtime does not run: {reason}"), Fix::repair())
        }
        Some(Err(reason)) => LOADER.fail(format!("{absent}, and the runtime does not run: {reason}"), fix),
        Some(Ok(_)) => LOADER.warn(format!("{absent}, but the runtime starts"), fix),
        None => LOADER.warn(absent, fix),
    }
}

/// The packages of this distribution that contain the `missing` libraries.
fn package_advice(missing: &[LibraryError]) -> Fix {
    let packages: Vec<_> = missing
        .iter()
        .filter_map(|error| error.distribution.as_ref()?.package(&error.library))
        .collect();
    if packages.is_empty() {
        let fallback = "install the packages that contain libvulkan.so.1 and libGL.so.1 (Debian: libvulkan1, libgl1)";
        return Fix::by_hand(fallback);
    }
    let instructions: Vec<String> = packages
        .iter()
        .map(|package| format!("`{}`", package.instruction()))
        .collect();
    Fix::by_hand(format!("run {}", instructions.join(" and ")))
}

pub(super) async fn apply(setup: &mut Setup<'_>) -> Result<String, Failure> {
    if setup.wanted.chosen.runtime == RuntimeName::LitertLm {
        return litert_lm::apply(setup).await;
    }
    let Some((artifact, path)) = artifact(setup).cloned().zip(setup.site.lit_path()) else {
        return Err(setup.unsupported());
    };
    let mut done = Vec::new();
    let is_downloaded = !is_present(setup, &artifact, &path);
    if is_downloaded {
        let request = Request {
            id: "runtime".to_owned(),
            label: artifact.file_name().to_owned(),
            url: artifact.url.clone(),
            sha256: artifact.sha256,
            size: artifact.size,
            place: path.clone(),
        };
        let before = setup.state.clone();
        let claim = claim(setup, &path, artifact.sha256)?;
        let fetched = setup.tools.fetcher.fetch(&request, setup.tools.progress).await;
        drop(claim);
        if fetched.is_err() {
            setup.state = before;
        }
        done.push(format!("downloaded {} ({})", shown(&path), Size(fetched?.size)));
    }
    let recipe = Recipe::of(setup.site.target);
    allow_to_run(recipe, &path).map_err(|error| {
        Failure::new(
            Kind::Unexpected,
            format!("cannot make {} executable: {error}", shown(&path)),
        )
        .with_hint("check that the file belongs to you and its file system allows execution")
    })?;
    // A file that another program installed is not recorded: `uninstall` deletes what is.
    if is_downloaded || setup.state.placed(&path).is_some() {
        setup.state.remember_hash(&path, artifact.sha256);
    }
    setup.forget_listing();
    if recipe.has(Effect::ExecutableBit) {
        done.push("made it executable".to_owned());
    }
    Ok(done.join(", "))
}

/// A file that the record names before it is in place. When this value is dropped and the file is still missing, because
/// the download failed or a signal ended it, the record of before is restored.
struct Claim {
    file: PathBuf,
    record: PathBuf,
    before: State,
    /// The files that the claim made; a first installation then leaves none.
    made: Vec<PathBuf>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.file.exists() {
            return;
        }
        // The download's failure is the one to report; `uninstall` checks the hash of a claimed file.
        if !self.made.contains(&self.record) {
            let _ = self.before.write(&self.record);
        }
        for made in &self.made {
            let _ = place::remove(made);
        }
    }
}

/// Records, before the download, the choices and that gem-setup may delete the file: the process may be killed as soon as
/// the file is in place. A file that another program installed is not recorded.
fn claim(setup: &mut Setup<'_>, path: &Path, sha256: Sha256) -> Result<Option<Claim>, Failure> {
    if setup.state.placed(path).is_some() || path.exists() {
        return Ok(None);
    }
    let layout = &setup.site.layout;
    let copies = setup.given_files().into_iter().map(|(_, copy)| copy);
    let made = copies.chain([layout.mirrors_file(), layout.state_file()]);
    let claim = Claim {
        file: path.to_owned(),
        record: layout.state_file(),
        before: setup.state.clone(),
        made: made.filter(|path| !path.exists()).collect(),
    };
    setup.choose_first()?;
    setup.state.claim_file(path, sha256);
    setup.state.write(&claim.record)?;
    Ok(Some(claim))
}

fn allow_to_run(recipe: Recipe, path: &Path) -> io::Result<()> {
    recipe.effects.iter().try_for_each(|effect| match effect {
        Effect::ExecutableBit => file::make_executable(path),
        Effect::StripQuarantine => file::strip_quarantine(path).map(drop),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Layout;

    #[test]
    fn a_claim_ends_with_its_interrupted_download() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path(), directory.path());
        let (file, record) = (directory.path().join("lit"), layout.state_file());
        let mut claimed = State::default();
        claimed.claim_file(&file, Sha256::of("lit"));
        for is_placed in [false, true] {
            claimed.write(&record).unwrap();
            if is_placed {
                std::fs::write(&file, "lit").unwrap();
            }
            drop(Claim {
                file: file.clone(),
                record: record.clone(),
                before: State::default(),
                made: vec![record.clone()],
            });
            assert_eq!(layout.state_file().exists(), is_placed);
        }
    }
}
