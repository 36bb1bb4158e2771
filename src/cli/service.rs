//! `service install|uninstall|status`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use gem_platform::Os;
use gem_platform::service::{self, Account, Kind as ServiceKind, Spec, Tools};
use gem_setup::error::{Failure, Kind};
use gem_setup::setup;
use gem_setup::supervise::{self, GRACE, Running};
use serde_json::json;

use super::args::ServiceAction;
use super::control;
use super::session::Session;

const LABEL: &str = "gem-setup";
/// The gateway tells systemd that it lives twice in this time.
const WATCHDOG: Duration = Duration::from_secs(60);

/// Has the system run the server at login, or not, or says whether it does.
pub(crate) fn run(session: &Session<'_>, action: ServiceAction) -> Result<ExitCode, Failure> {
    let os = session.target()?.os;
    let kind = ServiceKind::of(os);
    let account = account(session);
    let tools = Tools;
    let printer = session.printer;
    match action {
        ServiceAction::Install => {
            let spec = spec(session, os)?;
            // Before anything is stopped for the sake of a service that cannot be.
            service::probe(kind, &account, &tools).map_err(failure)?;
            make_way(session, kind, &account)?;
            let installed = service::install(kind, &spec, &account, &tools).map_err(failure)?;
            if printer.json() {
                printer.json_line(&json!({"definition": installed.definition, "changed": installed.changed}));
            } else {
                printer.line(&format!(
                    "the {kind} `{}` runs the server at login",
                    installed.definition.display()
                ));
            }
        }
        ServiceAction::Uninstall => {
            let removed = service::uninstall(kind, LABEL, &account, &tools).map_err(failure)?;
            if printer.json() {
                printer.json_line(&json!({"removed": removed}));
            } else if removed {
                printer.line(&format!("removed the {kind}"));
            } else {
                printer.line(&format!("there was no {kind}"));
            }
        }
        ServiceAction::Status => {
            let status = service::status(kind, LABEL, &account, &tools).map_err(failure)?;
            if printer.json() {
                printer.json_line(&json!({
                    "kind": kind.to_string(),
                    "definition": status.definition,
                    "installed": status.installed,
                    "running": status.running,
                    "pid": status.pid,
                }));
            } else {
                let presence = if status.installed { "installed" } else { "not installed" };
                let running = match status.running {
                    Some(true) => "running",
                    Some(false) => "not running",
                    None => "running or not, the system does not say",
                };
                printer.line(&format!(
                    "{kind}: {presence}, {running} ({})",
                    status.definition.display()
                ));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Stops the server of this home unless it is the service's own: the service would find its place taken.
fn make_way(session: &Session<'_>, kind: ServiceKind, account: &Account) -> Result<(), Failure> {
    let own = service::status(kind, LABEL, account, &Tools).map_err(failure)?.pid;
    let pid = match control::look(session)? {
        Running::Supervised(record) => Some(record.process.pid),
        Running::Bare { pid, .. } => Some(pid),
        Running::No | Running::Foreign(_) => return Ok(()),
        Running::Unnamed => None,
    };
    if pid.is_some() && own == pid {
        return Ok(());
    }
    session.block_on(async { Ok(supervise::stop(&session.layout, GRACE).await?) })?;
    if let Some(pid) = pid {
        session
            .printer
            .remark(&format!("stopped the server (pid {pid}); the {kind} takes over"));
    }
    Ok(())
}

/// Removes the service if it runs the server of this home; says whether it did.
pub(crate) fn remove_own(session: &Session<'_>) -> Result<bool, Failure> {
    let kind = ServiceKind::of(session.target()?.os);
    let account = account(session);
    let definition = service::definition_path(kind, LABEL, &account);
    let is_own = match session.layout.home().to_str() {
        // The home's own folder holds nobody else's definition, even if the home has been moved since.
        _ if definition.starts_with(session.layout.own()) => definition.exists(),
        Some(home) => service::passes(kind, LABEL, &account, &["--home", home]).map_err(failure)?,
        None => false,
    };
    if is_own {
        service::uninstall(kind, LABEL, &account, &Tools).map_err(failure)
    } else {
        Ok(false)
    }
}

fn failure(error: service::Error) -> Failure {
    let kind = match error {
        service::Error::Label(_) | service::Error::Unwritable { .. } => Kind::Usage,
        _ => Kind::Unexpected,
    };
    let hint = error
        .advice()
        .unwrap_or("`gem-setup start` runs the server without the system's help");
    Failure::new(kind, gem_setup::error::chain(&error)).with_hint(hint)
}

fn account(session: &Session<'_>) -> Account {
    let environment = &session.environment;
    let name = environment
        .var("USER")
        .or_else(|| environment.var("USERNAME"))
        .unwrap_or_default();
    let name = match environment.var("USERDOMAIN") {
        Some(domain) => format!("{domain}\\{name}"),
        None => name.to_owned(),
    };
    Account {
        name,
        id: service::user_id(),
        home: environment.user_home().to_owned(),
        config: environment.var("XDG_CONFIG_HOME").map(Into::into),
        own: session.layout.own(),
    }
}

fn spec(session: &Session<'_>, os: Os) -> Result<Spec, Failure> {
    let state = session.state()?;
    let home = session.layout.home().to_str().ok_or_else(|| {
        let message = format!(
            "the home `{}` is no text that a service can name",
            session.layout.home().display()
        );
        Failure::new(Kind::Usage, message).with_hint("pass another home with `--home`")
    })?;
    let mut args = vec![
        "serve".to_owned(),
        format!("--port={}", state.chosen.port),
        "--home".to_owned(),
        home.to_owned(),
    ];
    let mode = match os {
        // A task that stays in the foreground would keep a console window open.
        Os::Windows => "--detach",
        // What the service manager starts is what it watches.
        Os::Linux | Os::Macos => setup::FOREGROUND,
    };
    args.push(mode.to_owned());
    Ok(Spec {
        label: LABEL.to_owned(),
        description: "Local model routing for Gemini CLI".to_owned(),
        program: session.program()?,
        args,
        environment: BTreeMap::new(),
        log: session.layout.service_log_file(),
        watchdog: Some(WATCHDOG),
        final_statuses: [Kind::Usage, Kind::TermsNotAccepted, Kind::Unsupported, Kind::Conflict]
            .map(Kind::exit_status)
            .into(),
    })
}
