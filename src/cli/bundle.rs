//! `bundle create`.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::ExitCode;

use gem_platform::Target;
use gem_setup::error::Failure;
use gem_setup::setup::{self, BundleRequest};
use gem_setup::shell;

use super::args::BundleAction;
use super::session::{Session, or_recorded};
use crate::report::Events;

/// Makes a mirror on disk.
pub(crate) fn run(session: &Session<'_>, action: BundleAction) -> Result<ExitCode, Failure> {
    let BundleAction::Create {
        dir,
        target,
        model,
        catalog,
        network,
    } = action;
    let absolute = |path: &PathBuf| session.environment.current_dir().join(path);
    let state = session.state()?;
    let catalog_file = catalog.as_ref().map(absolute).or_else(|| state.chosen.catalog.clone());
    let events = Events::remarks(session.printer);
    let request = BundleRequest {
        dir: absolute(&dir),
        targets: if target.is_empty() {
            vec![session.target()?]
        } else {
            target
        },
        model: model.then(|| state.chosen.model.clone()),
        catalog: session.catalog(catalog_file.as_ref())?,
    };
    let fetcher = session.fetcher(&or_recorded(network, state))?;
    let bundle = session.block_on(setup::create_bundle(&session.layout, &request, &fetcher, &events))?;
    let printer = session.printer;
    if printer.json() {
        printer.json_line(&bundle);
    } else {
        for file in &bundle.files {
            printer.line(&format!("{}  {}", file.sha256, file.path.display()));
        }
        let mut words = vec![OsStr::new("gem-setup"), OsStr::new("install")];
        words.extend(model.then_some(OsStr::new("--accept-terms")));
        words.extend([OsStr::new("--catalog"), bundle.catalog.as_os_str()]);
        words.extend([OsStr::new("--mirror"), OsStr::new(bundle.mirror.as_str())]);
        let targets: Vec<String> = request.targets.iter().map(Target::to_string).collect();
        printer.line(&format!(
            "\nCarry {} to the other machine ({}) and run there:\n  {}",
            request.dir.display(),
            targets.join(", "),
            shell::line(session.target()?.os, words)
        ));
    }
    Ok(ExitCode::SUCCESS)
}
