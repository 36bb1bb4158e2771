//! `service install|uninstall|status`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use gem_platform::Os;
use gem_platform::service::{self, Account, Kind as ServiceKind, Spec, Tools};
use gem_setup::error::{Failure, Kind};
use gem_setup::setup;
use gem_setup::supervise::{self, GRACE, Running};
use serde_json::json;

use super::server::Server;
use super::session::Session;
use super::status::look;

const LABEL: &str = "gem-setup";
/// The gateway reports to systemd twice within this time.
const WATCHDOG: Duration = Duration::from_secs(60);

/// Has the system run the server at login, starting now.
pub(crate) fn install(session: &Session<'_>, server: &Server<'_>) -> Result<ExitCode, Failure> {
    let (kind, account) = (kind(session)?, account(session));
    server.check(session)?;
    server.warn_of_idle_options(session.printer);
    let spec = definition_of(session, server)?;
    // Before the running server is stopped for a service that cannot be.
    service::probe(kind, &account, &Tools).map_err(failure)?;
    stop_other_server(session, kind, &account)?;
    let installed = service::install(kind, &spec, &account, &Tools).map_err(failure)?;
    let printer = session.printer;
    if printer.json() {
        printer.json_line(&json!({"definition": installed.definition, "changed": installed.changed}));
    } else {
        let definition = installed.definition.display();
        printer.line(&format!("the {kind} `{definition}` runs the server at login"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Stops running the server at login.
pub(crate) fn uninstall(session: &Session<'_>) -> Result<ExitCode, Failure> {
    let kind = kind(session)?;
    let removed = service::uninstall(kind, LABEL, &account(session), &Tools).map_err(failure)?;
    let printer = session.printer;
    if printer.json() {
        printer.json_line(&json!({"removed": removed}));
    } else if removed {
        printer.line(&format!("removed the {kind}"));
    } else {
        printer.line(&format!("there was no {kind}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints whether the server runs at login.
pub(crate) fn status(session: &Session<'_>) -> Result<ExitCode, Failure> {
    let kind = kind(session)?;
    let status = service::status(kind, LABEL, &account(session), &Tools).map_err(failure)?;
    let printer = session.printer;
    if printer.json() {
        printer.json_line(&json!({
            "kind": kind.to_string(),
            "definition": status.definition,
            "installed": status.installed,
            "running": status.running,
            "pid": status.pid,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    let presence = if status.installed { "installed" } else { "not installed" };
    let running = match status.running {
        Some(true) => "running",
        Some(false) => "not running",
        None => "running or not: the system does not say",
    };
    let definition = status.definition.display();
    printer.line(&format!("{kind}: {presence}, {running} ({definition})"));
    Ok(ExitCode::SUCCESS)
}

fn kind(session: &Session<'_>) -> Result<ServiceKind, Failure> {
    Ok(ServiceKind::of(session.target()?.os))
}

/// Stops the server of this home unless it is the service's own: the service would find the home served.
fn stop_other_server(session: &Session<'_>, kind: ServiceKind, account: &Account) -> Result<(), Failure> {
    let own = service::status(kind, LABEL, account, &Tools).map_err(failure)?.pid;
    let pid = match look(session)? {
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

/// Removes the service if it runs the server of this home; returns whether it did.
pub(crate) fn remove_own(session: &Session<'_>) -> Result<bool, Failure> {
    let (kind, account) = (kind(session)?, account(session));
    let definition = service::definition_path(kind, LABEL, &account);
    let is_own = match session.layout.home().to_str() {
        // A definition in the home's own folder is the home's, even if the home has been moved since.
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

/// The service that runs `server`.
fn definition_of(session: &Session<'_>, server: &Server<'_>) -> Result<Spec, Failure> {
    let not_text = |word: OsString| {
        let message = format!("cannot name `{}` in a service: it is not valid UTF-8", word.display());
        Failure::new(Kind::Usage, message).with_hint("use another path")
    };
    if let Some(upstream) = server.spec.secret() {
        let message =
            format!("cannot name the upstream `{upstream}` in a service: other users can read its definition");
        return Err(Failure::new(Kind::Usage, message).with_hint(format!(
            "set `upstream` in `{}`, run `gem-setup stop`, then run the command again without `--upstream`",
            session.layout.config_file().display()
        )));
    }
    let mut args = Vec::new();
    for word in server.spec.args(&server.site) {
        args.push(word.into_string().map_err(not_text)?);
    }
    let mode = match server.site.os() {
        // A task in the foreground would keep a console window open.
        Os::Windows => "--detach",
        // The service manager watches the process that it starts.
        Os::Linux | Os::Macos => setup::FOREGROUND,
    };
    args.push(mode.to_owned());
    Ok(Spec {
        label: LABEL.to_owned(),
        description: "Local model routing for Gemini CLI".to_owned(),
        program: server.site.program.clone(),
        args,
        environment: BTreeMap::new(),
        log: session.layout.service_log_file(),
        watchdog: Some(WATCHDOG),
        final_statuses: [Kind::Usage, Kind::TermsNotAccepted, Kind::Unsupported, Kind::Conflict]
            .map(Kind::exit_status)
            .into(),
    })
}
