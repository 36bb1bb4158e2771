//! The command `bundle`.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gem_platform::Os;
use gem_platform::process::Program;
use gem_setup::error::Failure;
use gem_setup::runtime::{LocalModelName, RuntimeName};
use gem_setup::setup::{self, Bundle, BundleRequest, BundleTools, BundledTarget, GUARD, ModelRequest};
use gem_setup::shell;

use super::args::{BundleAction, BundleCreateArgs};
use super::install::how;
use super::layers::Origin;
use super::server_args::RuntimeChoice;
use super::session::{Session, or_recorded, runtime_of};
use super::values::KeyOrFile;
use crate::report::{Events, Printer};

/// Makes or checks a bundle.
pub(crate) fn run(session: &Session<'_>, action: BundleAction, accepted: Option<Origin>) -> Result<ExitCode, Failure> {
    match action {
        BundleAction::Create(args) => create(session, *args, accepted),
        BundleAction::Verify { bundle, public_key } => verify(session, &bundle, public_key.as_ref()),
    }
}

fn create(session: &Session<'_>, args: BundleCreateArgs, accepted: Option<Origin>) -> Result<ExitCode, Failure> {
    let (state, printer) = (session.state()?, session.printer);
    let request = request(session, &args, accepted)?;
    if request.preferred == Some(RuntimeName::Builtin) {
        printer.warning(
            "the bundle will have no runtime for a local model, because `builtin` is installed here; `--runtime auto` \
            adds one",
        );
    }
    let events = Events::remarks(printer);
    let tools = BundleTools {
        layout: &session.layout,
        environment: &session.environment,
        fetcher: &session.fetcher(&or_recorded(args.network, state))?,
        guard: Program {
            path: session.program()?,
            args: vec![GUARD.into()],
            ..Program::default()
        },
        progress: &events,
    };
    let bundle = session.work_until_signal(setup::create_bundle(&request, &tools))?;
    if printer.json() {
        printer.json_line(&bundle);
    } else {
        show(printer, &bundle, request.model.as_ref().map(|model| &model.name));
    }
    Ok(ExitCode::SUCCESS)
}

/// The bundle that `args` describe.
fn request(session: &Session<'_>, args: &BundleCreateArgs, accepted: Option<Origin>) -> Result<BundleRequest, Failure> {
    let absolute = |path: &PathBuf| session.environment.current_dir().join(path);
    let (state, host) = (session.state()?, session.target()?);
    let catalog_file = args
        .catalog
        .as_ref()
        .map(absolute)
        .or_else(|| state.chosen.catalog.clone());
    let catalog = session.catalog(catalog_file.as_ref())?;
    let model = (args.model || args.model_file.is_some()).then(|| ModelRequest {
        name: state.chosen.model.clone(),
        file: args.model_file.as_ref().map(absolute),
        accepted: args.accept_terms.then(|| how(accepted)),
    });
    let targets = if args.target.is_empty() {
        vec![host]
    } else {
        args.target.clone()
    };
    let mut programs: Vec<_> = args
        .program
        .iter()
        .map(|(target, file)| (*target, absolute(file)))
        .collect();
    if targets.contains(&host) {
        programs.push((host, session.program()?));
    }
    let runtime = args.runtime.filter(|choice| *choice != RuntimeChoice::Auto);
    Ok(BundleRequest {
        place: absolute(&args.bundle),
        targets,
        runtime: runtime.map(|choice| runtime_of(choice, &catalog, host)),
        preferred: (args.runtime.is_none() && session.is_installed()).then_some(state.chosen.runtime),
        model,
        catalog,
        programs,
        key: args.sign.as_ref().map(absolute),
    })
}

/// Lists the files of `bundle`, for a person only their number, and the commands that install from it with this `model`.
fn show(printer: &Printer, bundle: &Bundle, model: Option<&LocalModelName>) {
    if std::io::stdout().is_terminal() {
        let (files, sums) = (bundle.files.len(), setup::BUNDLE_LIST);
        printer.prose(&format!("The bundle has {files} files, which its `{sums}` lists."), 2);
    } else {
        for file in &bundle.files {
            printer.line(&format!("{}  {}", file.sha256, file.path));
        }
        printer.line("");
    }
    match model {
        Some(_) => printer.prose("The bundle contains the model.", 2),
        None if needs_model(bundle) => printer.prose("The bundle does not contain the model; `--model` adds it.", 2),
        None => {}
    }
    bundle
        .targets
        .iter()
        .for_each(|target| printer.line(&described(target)));
    printer.prose(
        "Copy the bundle to the other machine. Then run there, with its path on that machine:",
        2,
    );
    for command in commands(bundle, model) {
        printer.line(&format!("  {command}"));
    }
}

fn needs_model(bundle: &Bundle) -> bool {
    bundle.targets.iter().any(|bundled| bundled.runtime.has_models())
}

/// The content of a bundle for one platform, in one line.
fn described(bundled: &BundledTarget) -> String {
    let BundledTarget {
        target,
        runtime,
        program,
    } = bundled;
    match program {
        Some(path) => format!("For {target}: {runtime}; gem-setup itself is `{path}`."),
        None => format!(
            "For {target}: {runtime}, but not gem-setup itself: add it with `gem-setup bundle create --program {target}=FILE`, \
            or copy gem-setup to the machine separately."
        ),
    }
}

/// The commands that install from `bundle`, for the shell of each platform. They run the gem-setup in the bundle if it has
/// one.
fn commands(bundle: &Bundle, model: Option<&LocalModelName>) -> Vec<String> {
    let options = options(bundle, model);
    let mut commands: Vec<String> = Vec::new();
    for BundledTarget { target, program, .. } in &bundle.targets {
        let place = bundle.bundle.as_path();
        let program = match program {
            // A tar file would need a second copy of itself, so only the program is taken out.
            Some(inside) if !place.is_dir() => {
                let unpack = ["tar".as_ref(), "-xf".as_ref(), place.as_os_str(), inside.as_ref()];
                commands.push(shell::line(target.os, unpack));
                OsString::from(inside)
            }
            Some(inside) => place.join(inside).into(),
            None => "gem-setup".into(),
        };
        let words = [program, "install".into()].into_iter().chain(options.iter().cloned());
        let command = shell::line(target.os, words);
        // In PowerShell, a quoted program alone is a text.
        let call = match target.os == Os::Windows && command.starts_with(['"', '\'']) {
            true => "& ",
            false => "",
        };
        let command = format!("{call}{command}");
        if !commands.contains(&command) {
            commands.push(command);
        }
    }
    commands
}

/// The options that install from `bundle`.
fn options(bundle: &Bundle, model: Option<&LocalModelName>) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    match model {
        Some(_) => words.push("--accept-terms".into()),
        // The model is neither in the bundle nor can it be downloaded.
        None if needs_model(bundle) => words.push("--no-model".into()),
        None => {}
    }
    if let Some(model) = model.filter(|model| **model != LocalModelName::default()) {
        words.extend(["--model".into(), model.as_str().into()]);
    }
    words.extend(["--bundle".into(), bundle.bundle.clone().into()]);
    if let Some(key) = &bundle.public_key {
        words.extend(["--public-key".into(), key.into()]);
    }
    words
}

fn verify(session: &Session<'_>, bundle: &Path, key: Option<&KeyOrFile>) -> Result<ExitCode, Failure> {
    let bundle = session.environment.current_dir().join(bundle);
    let checked = setup::check_bundle(&bundle, key.map(|key| key.0.as_str()))?;
    let printer = session.printer;
    if printer.json() {
        printer.json_line(&serde_json::json!({
            "ok": true, "files": checked.files(), "targets": checked.targets, "signed": checked.is_signed, "signature_verified": checked.is_verified,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    let signature = match (checked.is_verified, checked.is_signed) {
        (true, _) => "the signature is valid",
        (false, true) => "it is signed; pass `--public-key KEY` to check who signed it",
        (false, false) => "it is not signed",
    };
    printer.prose(&format!("All {} files are as listed; {signature}.", checked.files()), 2);
    checked
        .targets
        .iter()
        .for_each(|target| printer.line(&described(target)));
    Ok(ExitCode::SUCCESS)
}
