//! The runtime's companion files: on Windows, two DLLs of the DirectX shader compiler.

use std::path::PathBuf;

use crate::catalog::Companion;
use crate::error::Failure;
use crate::fetch::{Request, unpack};
use crate::runtime::RuntimeName;
use crate::setup::check::{Fix, Subject};
use crate::setup::obstacle::{Use, download_needs};
use crate::setup::records::PlacedFile;
use crate::setup::step::Inspection;
use crate::setup::{Setup, shown};
use crate::sha256::Sha256;

const CHECK: Subject = Subject::new("platform.companions", "files beside the runtime");

fn companions(setup: &Setup<'_>) -> Vec<Companion> {
    if setup.wanted.chosen.runtime == RuntimeName::Lit {
        setup.site.catalog.companions(setup.site.target).cloned().collect()
    } else {
        Vec::new()
    }
}

/// The paths of the files of `companion`.
fn places(setup: &Setup<'_>, companion: &Companion) -> Vec<PathBuf> {
    let names = companion.extract.iter().filter_map(|inside| inside.rsplit('/').next());
    names.map(|name| setup.site.runtime_directory().join(name)).collect()
}

pub(super) fn inspect(setup: &Setup<'_>) -> Inspection {
    let companions = companions(setup);
    if companions.is_empty() {
        let reason = format!("{} needs none on {}", setup.wanted.chosen.runtime, setup.site.target);
        return Inspection::not_needed(reason.clone(), vec![CHECK.skip(reason)]);
    }
    let mut plans = Vec::new();
    let mut faults = Vec::new();
    for companion in &companions {
        let found = faults_of(setup, companion);
        if !found.is_empty() {
            let names: Vec<_> = companion.extract.iter().map(String::as_str).collect();
            plans.push(format!(
                "download {} and extract {}",
                setup.first_source(&companion.url),
                names.join(", ")
            ));
        }
        faults.extend(found);
    }
    if faults.is_empty() {
        let detail = format!("all in place in {}", shown(&setup.site.runtime_directory()));
        return Inspection::in_place(detail.clone(), vec![CHECK.ok(detail)]);
    }
    Inspection::needed(plans.join("; "), vec![CHECK.fail(faults.join("; "), Fix::repair())])
}

/// The faults of the files of `companion`: missing, or different from those in the pinned archive.
fn faults_of(setup: &Setup<'_>, companion: &Companion) -> Vec<String> {
    let mut faults = Vec::new();
    for path in places(setup, companion) {
        let placed = setup.state.companions.iter().find(|placed| placed.path == path);
        match (Sha256::of_file(&path), placed) {
            (Err(_), _) => faults.push(format!("{} is missing", shown(&path))),
            (Ok(_), None) => faults.push(format!("{} was not installed by gem-setup", shown(&path))),
            (Ok(found), Some(placed)) if found != placed.sha256 => {
                faults.push(format!("{} has been changed since it was installed", shown(&path)));
            }
            (Ok(_), Some(placed)) if placed.archive != companion.sha256 => {
                faults.push(format!(
                    "{} comes from another archive than the catalog's",
                    shown(&path)
                ));
            }
            (Ok(_), Some(_)) => {}
        }
    }
    faults
}

/// The files that are written when companions are downloaded.
pub(in crate::setup) fn companion_needs(setup: &Setup<'_>) -> Vec<(PathBuf, Use)> {
    let layout = &setup.site.layout;
    let companions = companions(setup);
    let pending = companions
        .iter()
        .filter(|companion| setup.wanted.force || !faults_of(setup, companion).is_empty());
    let needs = pending.flat_map(|companion| {
        let places = places(setup, companion).into_iter();
        let mut needs: Vec<_> = places.map(|place| (place, Use::Replace)).collect();
        needs.push((archive(setup, companion), Use::Replace));
        needs.extend(download_needs(layout, companion.sha256));
        needs
    });
    needs.collect()
}

fn file_name(companion: &Companion) -> &str {
    companion.url.path().rsplit('/').next().unwrap_or(&companion.name)
}

fn archive(setup: &Setup<'_>, companion: &Companion) -> PathBuf {
    setup.site.layout.downloads().join(file_name(companion))
}

pub(super) async fn apply(setup: &mut Setup<'_>) -> Result<String, Failure> {
    let mut done = Vec::new();
    for companion in companions(setup) {
        if !setup.wanted.force && faults_of(setup, &companion).is_empty() {
            continue;
        }
        let archive = archive(setup, &companion);
        let request = Request {
            id: "companions".to_owned(),
            label: file_name(&companion).to_owned(),
            url: companion.url.clone(),
            sha256: companion.sha256,
            size: companion.size,
            place: archive.clone(),
        };
        setup.tools.fetcher.fetch(&request, setup.tools.progress).await?;
        let extracted = unpack::extract(&archive, &companion.extract, &setup.site.runtime_directory());
        // The archive is not needed again, whether or not the extraction worked.
        let _ = std::fs::remove_file(&archive);
        remember(setup, &companion, &extracted?);
        done.push(companion.extract.join(", "));
    }
    Ok(format!("extracted {}", done.join(", ")))
}

fn remember(setup: &mut Setup<'_>, companion: &Companion, paths: &[PathBuf]) {
    setup.state.companions.retain(|placed| !paths.contains(&placed.path));
    for path in paths {
        if let Ok(sha256) = Sha256::of_file(path) {
            setup.state.companions.push(PlacedFile {
                path: path.clone(),
                sha256,
                archive: companion.sha256,
            });
        }
    }
}
