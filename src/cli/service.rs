//! The commands `service install`, `service uninstall` and `service status`.

use std::process::ExitCode;

use gem_platform::service::{self, Account, Kind as ServiceKind, Tools};
use gem_setup::error::Failure;
use gem_setup::place;
use gem_setup::setup::{SERVICE, service_account, service_definition, service_failure, service_kind};
use gem_setup::supervise::{self, GRACE, Running};
use serde_json::json;

use super::args::ServiceAction;
use super::control;
use super::server::Server;
use super::server_args::ServerArgs;
use super::session::Session;
use super::status::look;

/// The argument that every service of gem-setup passes to the program.
const SERVE: [&str; 1] = ["serve"];

/// Runs `action`; `resolve` reads the server's options.
pub(crate) fn run<'s>(
    session: &'s Session<'_>,
    action: ServiceAction,
    resolve: impl FnOnce(ServerArgs) -> Result<Server<'s>, Failure>,
) -> Result<ExitCode, Failure> {
    match action {
        ServiceAction::Install(args) => install(session, &resolve(*args)?),
        ServiceAction::Uninstall => uninstall(session),
        ServiceAction::Status => status(session),
    }
}

/// Makes the system run the server at login, starting now.
fn install(session: &Session<'_>, server: &Server<'_>) -> Result<ExitCode, Failure> {
    let (kind, account) = (kind(session)?, account(session));
    server.check(session)?;
    control::check_installed(session, server)?;
    session.block_on(server.check_direct(session))?;
    server.warn_of_idle_options(session.printer, false);
    let spec = service_definition(&server.spec, &server.site)?;
    // Checked before the running server is stopped, because the service may be impossible.
    let definition = service::own_definition(kind, SERVICE, &account, &SERVE).map_err(failure)?;
    place::check(&definition)
        .map_err(|unfit| Failure::cannot_at("install the service: cannot write", &unfit.path, &unfit.source))?;
    service::probe(kind, &account, &Tools).map_err(failure)?;
    stop_other_server(session, kind, &account)?;
    let installed = service::install(kind, &spec, &account, &Tools).map_err(failure)?;
    let printer = session.printer;
    if printer.json() {
        printer.json_line(&json!({"definition": installed.definition, "changed": installed.changed}));
    } else {
        let definition = printer.tilde(&format!("`{}`", installed.definition.display()));
        printer.prose(&format!("the {kind} {definition} runs the server {}", when(kind)), 2);
    }
    if service::lingers(kind, &account) == Some(false) {
        printer.remark_in_prose("it ends when you log out; `loginctl enable-linger` keeps it running", 2);
    }
    Ok(ExitCode::SUCCESS)
}

/// Stops running the server at login.
fn uninstall(session: &Session<'_>) -> Result<ExitCode, Failure> {
    let kind = kind(session)?;
    let removed = service::uninstall(kind, SERVICE, &account(session), &SERVE, &Tools).map_err(failure)?;
    let printer = session.printer;
    if printer.json() {
        printer.json_line(&json!({"removed": removed}));
    } else if removed {
        printer.line(&format!("removed the {kind}"));
    } else {
        printer.line(&format!("no {kind} was installed"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints whether the server runs at login.
fn status(session: &Session<'_>) -> Result<ExitCode, Failure> {
    let kind = kind(session)?;
    let status = service::status(kind, SERVICE, &account(session), &Tools).map_err(failure)?;
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
        None => "running state unknown",
    };
    let definition = printer.tilde(&format!("`{}`", status.definition.display()));
    printer.prose(&format!("{kind}: {presence}, {running} ({definition})"), 2);
    Ok(ExitCode::SUCCESS)
}

const fn when(kind: ServiceKind) -> &'static str {
    match kind {
        ServiceKind::SystemdMachine => "from the machine's start",
        ServiceKind::Systemd | ServiceKind::Launchd | ServiceKind::TaskScheduler => "at login",
    }
}

fn kind(session: &Session<'_>) -> Result<ServiceKind, Failure> {
    Ok(service_kind(&session.layout, session.target()?.os))
}

/// Stops the server of this home unless it belongs to the service: the new service would find the home in use.
fn stop_other_server(session: &Session<'_>, kind: ServiceKind, account: &Account) -> Result<(), Failure> {
    let own = service::status(kind, SERVICE, account, &Tools).map_err(failure)?.pid;
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
            .remark_in_prose(&format!("stopped the server (pid {pid}); the {kind} takes over"), 2);
    }
    Ok(())
}

/// Removes the service if it runs the server of this home; returns whether it did so.
pub(crate) fn remove_own(session: &Session<'_>) -> Result<bool, Failure> {
    let (kind, account) = (kind(session)?, account(session));
    let definition = service::definition_path(kind, SERVICE, &account);
    let is_own = match session.layout.home().to_str() {
        // A definition in the home's own directory belongs to the home, even if the home has been moved.
        _ if definition.starts_with(session.layout.own()) => definition.exists(),
        Some(home) => service::passes(kind, SERVICE, &account, &["--home", home]).map_err(failure)?,
        None => false,
    };
    if is_own {
        service::uninstall(kind, SERVICE, &account, &SERVE, &Tools).map_err(failure)
    } else {
        Ok(false)
    }
}

fn account(session: &Session<'_>) -> Account {
    service_account(&session.layout, &session.environment)
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` passes it by value")]
fn failure(error: service::Error) -> Failure {
    service_failure(&error)
}
