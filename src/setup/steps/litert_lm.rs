//! The runtime `litert-lm`: the one on the PATH if it has the pinned version, else one in its own Python environment.

use std::path::{Path, PathBuf};

use gem_platform::process::Guard;

use super::runtime_checks::{BINARY, CHECKSUM, EXECUTABLE, LOADER};
use crate::catalog::RuntimeEntry;
use crate::error::{Failure, Kind};
use crate::runtime::litert_lm::{Build, PROGRAM, Venv, requirements};
use crate::setup::bundled_model::wheels;
use crate::setup::check::{Check, Fix};
use crate::setup::step::Inspection;
use crate::setup::{Setup, shown};

/// The disk space for the environment and its installation, with packed and unpacked wheels, in bytes.
const ROOM: u64 = 250_000_000;

const OTHER_HOME: &str = "choose another home with `--home DIR`, or another runtime with `--runtime`";

/// The variable whose directories go before the system's when a program loads its libraries.
const LIBRARIES: &str = "LD_LIBRARY_PATH";

/// The disk space still needed, in bytes.
pub(super) fn missing_bytes(setup: &Setup<'_>) -> u64 {
    let is_there = setup.state.litert_lm.is_some() || setup.site.litert_lm_env().installed().is_some();
    if is_there { 0 } else { ROOM }
}

fn entry<'a>(setup: &'a Setup<'_>) -> Option<&'a RuntimeEntry> {
    setup.site.catalog.runtime(PROGRAM)
}

pub(super) async fn inspect(setup: &Setup<'_>) -> Inspection {
    let Some(entry) = entry(setup) else {
        let reason = "the catalog does not name its version";
        return Inspection::needed("find another runtime", vec![BINARY.skip(reason)]);
    };
    let version = &entry.version;
    let env = setup.site.litert_lm_env();
    let source = match wheels(&setup.wanted.chosen.mirrors) {
        Some(directory) => shown(&directory),
        None => "the Python package index".to_owned(),
    };
    let plan = format!("install {PROGRAM} {version} from {source} into {}", shown(env.root()));
    if !setup.site.is_for_this_machine() {
        return Inspection::needed(plan, Vec::new());
    }
    if let Some(program) = &setup.state.litert_lm {
        return inspect_found(setup, program, version, plan).await;
    }
    match env.installed() {
        Some(installed) if installed == requirements(entry) => inspect_env(setup, &env, entry, plan).await,
        Some(_) => {
            let fault = format!(
                "{} contains another version than {version}, or other packages",
                shown(env.root())
            );
            wanting(setup, fault, plan).await
        }
        None => {
            let fault = if env.root().exists() {
                format!("the installation in {} was interrupted", shown(env.root()))
            } else {
                format!("{PROGRAM} {version} is not installed")
            };
            match find_on_path(setup, version).await {
                Found::Pinned(program) => absent(fault, format!("use {}, which is version {version}", shown(&program))),
                Found::Other(remark) => wanting(setup, format!("{fault}; {remark}"), plan).await,
                Found::Nothing => wanting(setup, fault, plan).await,
            }
        }
    }
}

fn absent(fault: String, plan: String) -> Inspection {
    let mut checks = vec![BINARY.fail(fault, Fix::repair())];
    checks.extend([CHECKSUM, EXECUTABLE].map(|subject| subject.skip("the runtime is missing")));
    Inspection::needed(plan, checks)
}

/// The inspection if an installation is needed: checks whether this machine can do it.
async fn wanting(setup: &Setup<'_>, fault: String, plan: String) -> Inspection {
    let env = setup.site.litert_lm_env();
    let root = shown(env.root());
    if env.root().to_string_lossy().contains('\n') {
        let message =
            format!("cannot install {PROGRAM} into {root}: no Python program runs from a path with a line end");
        return unfit(Kind::Usage, message, OTHER_HOME.to_owned(), plan);
    }
    if let Err(error) = Venv::check_place(env.root()) {
        let hint = format!("move {root} somewhere else");
        return unfit(
            Kind::Download,
            format!("cannot install {PROGRAM} into {root}: {error}"),
            hint,
            plan,
        );
    }
    match setup.installer().await {
        Ok(installer) if !installer.takes(env.root()) => {
            let message = format!("cannot install {PROGRAM} into {root}: {installer} cannot use a path with `:`");
            unfit(Kind::Usage, message, OTHER_HOME.to_owned(), plan)
        }
        Ok(installer) => absent(fault, format!("{plan}, with {installer}")),
        Err(error) => absent(fault, plan).blocked_by(error),
    }
}

/// The inspection if the environment cannot be where it belongs.
fn unfit(kind: Kind, message: String, hint: String, plan: String) -> Inspection {
    let skipped = [CHECKSUM, EXECUTABLE].map(|subject| subject.skip("the runtime is missing"));
    let checks = std::iter::once(BINARY.fail(&message, Fix::by_hand(&hint))).chain(skipped);
    Inspection::needed(plan, checks.collect()).blocked_by(Failure::new(kind, message).with_hint(hint))
}

/// The inspection of a `litert-lm` that was on the PATH at the installation.
async fn inspect_found(setup: &Setup<'_>, program: &Path, version: &str, plan: String) -> Inspection {
    if let Err(fault) = try_version(setup, program, version).await {
        return absent(fault, plan);
    }
    let checksum = format!("{PROGRAM} {version}, not installed by gem-setup");
    let checks = vec![
        BINARY.ok(shown(program)),
        CHECKSUM.skip(checksum),
        EXECUTABLE.ok("it runs"),
    ];
    Inspection::in_place(format!("{} is {version}", shown(program)), checks)
}

/// A complete environment is in place if its `litert-lm` runs: its interpreter may be gone, or its directory renamed.
async fn inspect_env(setup: &Setup<'_>, env: &Venv, entry: &RuntimeEntry, plan: String) -> Inspection {
    let (program, version) = (env.program(), &entry.version);
    if let Err(fault) = try_version(setup, &program, version).await {
        return wanting(setup, fault, plan).await;
    }
    if let Some(other) = env.other_python() {
        let fault = format!(
            "{} runs {}, the Python of another environment",
            shown(&program),
            shown(&other)
        );
        return wanting(setup, fault, plan).await;
    }
    let checksum = if entry.packages.is_empty() {
        let detail = format!("{PROGRAM} {version}; the catalog contains no hashes for it");
        CHECKSUM.skip(detail)
    } else {
        let detail = format!("{PROGRAM} {version}, verified with the hashes in the catalog");
        CHECKSUM.ok(detail)
    };
    let checks = vec![BINARY.ok(shown(&program)), checksum, EXECUTABLE.ok("it runs")];
    Inspection::in_place(format!("{PROGRAM} {version} is in {}", shown(env.root())), checks)
}

/// Runs `program`, the current `litert-lm`; fails unless it is `version`.
async fn try_version(setup: &Setup<'_>, program: &Path, version: &str) -> Result<(), String> {
    if !program.exists() {
        return Err(format!("{} is missing", shown(program)));
    }
    match setup.litert_lm_version().await {
        Ok(Some(found)) if found == version => Ok(()),
        Ok(found) => {
            let found = found.unwrap_or_else(|| "another program".to_owned());
            Err(format!("{} is now {found}, but {version} is pinned", shown(program)))
        }
        Err(reason) => Err(format!("{} does not run: {reason}", shown(program))),
    }
}

/// The tool found on the PATH.
enum Found {
    /// It has the pinned version.
    Pinned(PathBuf),
    /// It has another version; contains the reason why it is not used.
    Other(String),
    Nothing,
}

async fn find_on_path(setup: &Setup<'_>, version: &str) -> Found {
    let environment = setup.site.environment;
    let Some(program) = environment.find(PROGRAM) else {
        return Found::Nothing;
    };
    if program.starts_with(setup.site.litert_lm_env().root()) {
        return Found::Nothing;
    }
    match setup.version_on_path(&program).await {
        Ok(Some(found)) if found == version => Found::Pinned(program),
        Ok(found) => {
            let found = found.unwrap_or_else(|| "of unknown version".to_owned());
            Found::Other(format!("{} is {found}, so it is not used", shown(&program)))
        }
        Err(reason) => Found::Other(format!("{} is not used: {reason}", shown(&program))),
    }
}

pub(super) async fn apply(setup: &mut Setup<'_>) -> Result<String, Failure> {
    let Some(entry) = entry(setup).cloned() else {
        return Err(setup.unsupported());
    };
    let env = setup.site.litert_lm_env();
    setup.forget_listing();
    if env.installed().is_none() {
        match find_on_path(setup, &entry.version).await {
            Found::Pinned(program) => {
                let done = format!("uses {}", shown(&program));
                setup.state.litert_lm = Some(program);
                return Ok(done);
            }
            Found::Other(remark) => setup.tools.progress.note("runtime", &remark),
            Found::Nothing => {}
        }
    }
    let installer = setup.installer().await?;
    let guard = Guard::new(setup.site.guard());
    let wheels = wheels(&setup.wanted.chosen.mirrors);
    let build = Build {
        installer: &installer,
        venv: &env,
        requirements: &requirements(&entry),
        wheels: wheels.as_deref(),
        version: &entry.version,
        environment: setup.site.environment,
        guard: &guard,
        progress: setup.tools.progress,
    };
    build.run().await?;
    setup.state.litert_lm = None;
    Ok(format!(
        "installed {PROGRAM} {} into {} with {installer}",
        entry.version,
        shown(env.root())
    ))
}

/// Whether the runtime starts, including its native library.
pub(super) async fn inspect_loader(setup: &Setup<'_>) -> Check {
    let program = setup.litert_lm_program();
    if !program.exists() {
        return LOADER.skip("the runtime is missing");
    }
    match setup.litert_lm_version().await {
        Ok(_) => LOADER.ok(format!("{} starts", shown(&program))),
        Err(reason) => {
            let detail = format!("{} does not start: {reason}", shown(&program));
            match setup.site.environment.var(LIBRARIES).filter(|_| reason.contains(".so")) {
                Some(directories) => LOADER.fail(
                    format!("{detail}; {LIBRARIES} is `{directories}`"),
                    Fix::by_hand(format!(
                        "unset {LIBRARIES}, or take out the directory with that library"
                    )),
                ),
                None => LOADER.fail(detail, Fix::repair()),
            }
        }
    }
}
