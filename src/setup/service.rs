//! The server as a service of the system.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gem_platform::Os;
use gem_platform::service::{self, Account, Kind as ServiceKind, Spec, Tools};

use super::program::keep_program;
use super::site::Site;
use super::spec::{FOREGROUND, ServerSpec};
use crate::environment::Environment;
use crate::error::{Failure, Kind, chain};
use crate::layout::{Layout, SYSTEM_HOME};
use crate::shell;

/// The name of the service.
pub const SERVICE: &str = "gem-setup";
/// The gateway reports to systemd twice within this time.
const WATCHDOG: Duration = Duration::from_secs(60);
/// How long the server may take to stop after its open requests; generous, for a busy machine.
const STOP_MARGIN: Duration = Duration::from_secs(25);
/// The directories that `ProtectHome=` and `PrivateTmp=` hide from a service for all users.
const HIDDEN: [&str; 5] = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];

/// The service manager for the server in the home of `layout`.
#[must_use]
pub fn service_kind(layout: &Layout, os: Os) -> ServiceKind {
    let machine = ServiceKind::of_machine(os).filter(|_| layout.is_of_system());
    machine.unwrap_or_else(|| ServiceKind::of(os))
}

/// The service manager of `os` that runs a server for all users.
///
/// # Errors
/// When `os` does not support that.
pub fn machine_service(os: Os) -> Result<ServiceKind, Failure> {
    ServiceKind::of_machine(os).ok_or_else(|| {
        Failure::new(Kind::Unsupported, format!("`--scope system` is not supported on {os}"))
            .with_hint("run `gem-setup install` as each user, each with another `--port`")
    })
}

/// Checks that this machine can run a server for all users. Changes nothing.
pub(super) fn check_machine_service(site: &Site<'_>) -> Result<(), Failure> {
    let kind = machine_service(site.os())?;
    if !site.is_for_this_machine() {
        return Ok(());
    }
    check_program(site)?;
    let account = service_account(&site.layout, site.environment);
    service::probe(kind, &account, &Tools).map_err(|error| service_failure(&error))
}

/// The account to which the service belongs.
#[must_use]
pub fn service_account(layout: &Layout, environment: &Environment) -> Account {
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
        config: environment
            .var("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute()),
        own: layout.own(),
    }
}

/// The service that runs the server `spec`.
///
/// # Errors
/// When a path is not text, other users could read a secret, or the service could not see the program.
pub fn service_definition(spec: &ServerSpec, site: &Site<'_>) -> Result<Spec, Failure> {
    check_secret(spec, &site.layout)?;
    check_program(site)?;
    let mut args = Vec::new();
    for word in spec.args(site) {
        args.push(word.into_string().map_err(not_text)?);
    }
    let mode = match site.os() {
        // A task in the foreground would keep a console window open.
        Os::Windows => "--detach",
        // The service manager watches the process that it has started.
        Os::Linux | Os::Macos => FOREGROUND,
    };
    args.push(mode.to_owned());
    let home = site
        .layout
        .is_of_system()
        .then(|| ("HOME".to_owned(), SYSTEM_HOME.to_owned()));
    Ok(Spec {
        label: SERVICE.to_owned(),
        description: "Local model routing for Gemini CLI".to_owned(),
        program: keep_program(&site.layout, &site.program)?,
        args,
        environment: BTreeMap::from_iter(home),
        log: site.layout.service_log_file(),
        watchdog: Some(WATCHDOG),
        stop_within: spec.drain + STOP_MARGIN,
        final_statuses: [Kind::Usage, Kind::TermsNotAccepted, Kind::Unsupported, Kind::Conflict]
            .map(Kind::exit_status)
            .into(),
    })
}

fn not_text(word: OsString) -> Failure {
    let message = format!("cannot name `{}` in a service: it is not valid UTF-8", word.display());
    Failure::new(Kind::Usage, message).with_hint("use another path")
}

fn check_secret(spec: &ServerSpec, layout: &Layout) -> Result<(), Failure> {
    let Some(upstream) = spec.secret() else {
        return Ok(());
    };
    let message = format!("cannot name the upstream `{upstream}` in a service: other users can read its definition");
    Err(Failure::new(Kind::Usage, message).with_hint(format!(
        "set `upstream` in `{}`, run `gem-setup stop`, then run the command again without `--upstream`",
        layout.config_file().display()
    )))
}

/// Whether `path` is hidden from a service for all users.
#[must_use]
pub fn is_hidden_from_service(path: &Path) -> bool {
    HIDDEN.iter().any(|directory| path.starts_with(directory))
}

fn check_program(site: &Site<'_>) -> Result<(), Failure> {
    if !site.layout.is_of_system() || !is_hidden_from_service(&site.program) {
        return Ok(());
    }
    let program = site.program.display();
    let message =
        format!("cannot run `{program}` for all users: that directory is hidden from a service of the machine");
    Err(Failure::new(Kind::Usage, message).with_hint(format!(
        "copy it: `{}`, then call it by that path",
        shell::line(
            Os::HOST,
            [
                OsStr::new("sudo"),
                "install".as_ref(),
                site.program.as_os_str(),
                "/usr/local/bin/".as_ref()
            ]
        )
    )))
}

/// The failure that reports an error of a service manager.
#[must_use]
pub fn service_failure(error: &service::Error) -> Failure {
    let kind = match error {
        service::Error::Label(_) | service::Error::Unwritable { .. } => Kind::Usage,
        service::Error::Foreign(_) => Kind::Conflict,
        service::Error::Unavailable {
            kind: ServiceKind::SystemdMachine,
            ..
        } => Kind::Unsupported,
        _ => Kind::Unexpected,
    };
    let hint = error
        .advice()
        .unwrap_or("`gem-setup start` runs the server without a service manager");
    Failure::new(kind, chain(error)).with_hint(hint)
}
