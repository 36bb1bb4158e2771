//! Disk space for the files to install: in bytes and in number of files.

use std::path::{Path, PathBuf};

use gem_platform::file;
use gem_platform::probe::Volume;

use crate::error::{Failure, Kind};
use crate::progress::Size;
use crate::runtime::RuntimeName;
use crate::setup::Setup;
use crate::setup::check::{Fix, Subject};
use crate::setup::step::Inspection;

const CHECK: Subject = Subject::new("platform.disk", "disk space");
/// The space for settings, logs and state, in addition to runtime and model; in bytes.
const MARGIN: u64 = 1 << 20;
/// The space for settings alone, in bytes.
const SETTINGS_MARGIN: u64 = 64 << 10;
const MEGABYTE: u64 = 1_000_000;
/// The number of files that are written next to their places, and of small ones: a file system may run out of inodes
/// although it has space.
const SPARE_FILES: u64 = 4;

pub(super) fn inspect(setup: &Setup<'_>) -> Inspection {
    if !setup.site.is_for_this_machine() {
        let reason = "cannot be known for another machine";
        return Inspection::not_needed(reason, vec![CHECK.skip(reason)]);
    }
    let files = missing_files(setup) + SPARE_FILES;
    let mut least: Option<(String, u64)> = None;
    for Need { path, largest, needed } in by_file_system(demands(setup)) {
        if let Some(left) = volume(&path).files_left.filter(|left| needed > 0 && *left < files) {
            return too_few(&path, left, files);
        }
        if let Some(limit) = file::size_limit().filter(|limit| largest > *limit) {
            return too_large(&path, limit, largest);
        }
        let Ok(free) = gem_platform::probe::available_space(&path) else {
            continue;
        };
        if free < needed {
            return too_little(&path, free, needed);
        }
        if least.as_ref().is_none_or(|(_, least)| free < *least) {
            least = Some((format!("{} free at `{}`", Size(free), path.display()), free));
        }
    }
    let detail = least.map_or_else(
        || "the system does not say how much is free".to_owned(),
        |(text, _)| text,
    );
    Inspection::in_place(detail.clone(), vec![CHECK.ok(detail)])
}

/// The number of files and directories still to create for the settings and the server. `install` counts them again when it
/// has created its lock.
fn missing_files(setup: &Setup<'_>) -> u64 {
    let layout = &setup.site.layout;
    let created = [
        layout.gemini(),
        layout.own(),
        layout.tmp(),
        layout.lock_file(),
        layout.state_file(),
        layout.launcher(setup.site.os()),
        layout.user_settings(),
        layout.pid_file(),
        layout.log_file(),
        layout.server_file(),
        layout.server_lock_file(),
        layout.engine_lock_file(),
    ];
    created.iter().filter(|path| !path.exists()).count() as u64
}

/// The files that are written to a directory.
#[derive(Clone)]
struct Demand {
    path: PathBuf,
    /// The bytes of the files to install.
    bytes: u64,
    /// The bytes of small files.
    margin: u64,
}

/// The directories that are written to. Each can be on a file system of its own.
fn demands(setup: &Setup<'_>) -> Vec<Demand> {
    let layout = &setup.site.layout;
    let small = |path: PathBuf, margin: u64| Demand { path, bytes: 0, margin };
    let large = |path: PathBuf, bytes: u64| Demand { path, bytes, margin: 0 };
    let (runtime, model) = (super::runtime::missing_bytes(setup), missing_model_bytes(setup));
    let directory = match setup.wanted.chosen.runtime {
        RuntimeName::LitertLm => setup.site.litert_lm_env().root().to_owned(),
        RuntimeName::Lit | RuntimeName::Builtin => setup.site.runtime_directory(),
    };
    let mut demands = [layout.gemini(), layout.own(), layout.tmp()]
        .map(|path| small(path, MARGIN))
        .to_vec();
    let settings = super::settings::directories(setup).into_iter();
    demands.extend(settings.map(|path| small(path, SETTINGS_MARGIN)));
    demands.extend([large(directory, runtime), large(layout.models(), model)]);
    let is_downloaded_here = setup.wanted.chosen.runtime == RuntimeName::LitertLm;
    if is_downloaded_here && volume(&layout.downloads()).device != volume(&layout.models()).device {
        // On one file system the runtime imports the file without a copy.
        demands.push(large(layout.downloads(), model));
    }
    demands
}

/// The files that are written to a file system.
struct Need {
    /// The directory on it that needs most.
    path: PathBuf,
    /// The bytes for that directory.
    largest: u64,
    /// All bytes.
    needed: u64,
}

fn by_file_system(demands: Vec<Demand>) -> Vec<Need> {
    let mut groups: Vec<(Option<u64>, Vec<Demand>)> = Vec::new();
    for demand in demands {
        let device = volume(&demand.path).device;
        match groups
            .iter_mut()
            .find(|(known, _)| device.is_some() && *known == device)
        {
            Some((_, group)) => group.push(demand),
            None => groups.push((device, vec![demand])),
        }
    }
    let summed = groups.into_iter().filter_map(|(_, group)| {
        let margin = group.iter().map(|demand| demand.margin).max()?;
        let needed = group.iter().map(|demand| demand.bytes).sum::<u64>() + margin;
        // The first of several.
        let most = group.into_iter().rev().max_by_key(|demand| demand.bytes)?;
        Some(Need {
            path: most.path,
            largest: most.bytes,
            needed,
        })
    });
    summed.collect()
}

fn missing_model_bytes(setup: &Setup<'_>) -> u64 {
    let model = setup.model();
    let is_there = setup.site.layout.models().join(&model.name).exists();
    let is_wanted = setup.wanted.with_model && setup.wanted.chosen.runtime.has_models();
    if is_there || !is_wanted {
        return 0;
    }
    match &setup.wanted.chosen.model_file {
        Some(file) => std::fs::metadata(file).map_or(0, |metadata| metadata.len()),
        None => model.size,
    }
}

/// The limits of the file system of `path`, as far as they are known.
fn volume(path: &Path) -> Volume {
    gem_platform::probe::volume(path).unwrap_or_default()
}

fn too_few(path: &Path, left: u64, needed: u64) -> Inspection {
    let detail = format!(
        "the file system of `{}` has inodes for {left} more files, but {needed} are needed",
        path.display()
    );
    let fix = format!(
        "delete files that you do not need from the file system of `{}` (`df -i` shows the free inodes)",
        path.display()
    );
    lacking(detail, fix)
}

fn too_large(path: &Path, limit: u64, largest: u64) -> Inspection {
    let detail = format!(
        "a file of {} belongs in `{}`, but no file may have more than {} here (`ulimit -f`)",
        Size(largest),
        path.display(),
        Size(limit)
    );
    let failure = Failure::new(Kind::Download, detail.clone()).with_hint(file::RAISE_SIZE_LIMIT);
    let check = CHECK.fail(detail, Fix::by_hand(file::RAISE_SIZE_LIMIT));
    Inspection::needed("raise the limit on file sizes", vec![check]).blocked_by(failure)
}

fn too_little(path: &Path, free: u64, needed: u64) -> Inspection {
    let place = path.display();
    let detail = format!(
        "`{place}` has {} free, but {} are needed",
        Size(free),
        megabytes(needed)
    );
    // From the number that is shown, so that the two add up.
    let missing = megabytes(needed.next_multiple_of(MEGABYTE) - free);
    lacking(detail, format!("free {missing} on the file system of `{place}`"))
}

fn lacking(detail: String, fix: String) -> Inspection {
    let failure = Failure::new(Kind::Download, format!("there is not enough space: {detail}")).with_hint(fix.clone());
    Inspection::needed("free disk space", vec![CHECK.fail(detail, Fix::by_hand(fix))]).blocked_by(failure)
}

/// `bytes` in megabytes, rounded up, so that the space is sufficient.
fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(MEGABYTE))
}
