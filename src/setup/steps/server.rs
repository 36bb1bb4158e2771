//! The server: runs as chosen and answers.

use gem_platform::service::{self, Tools};

use super::server_checks::{HEALTH, PROCESS, RESTART, inspect_health, inspect_pid_file, is_outside, is_wait};
use crate::error::{Failure, Kind};
use crate::net::{CERTIFICATES, Network};
use crate::progress::waiting;
use crate::runtime::{ProgramStamp, Runtime, RuntimeName};
use crate::settings::{self, Destination};
use crate::setup::check::{Check, Fix};
use crate::setup::port::{OPTIONS, PORT, obstacle};
use crate::setup::step::Inspection;
use crate::setup::{
    Condition, SERVICE, ServerSpec, Setup, Status, advice, check_machine_service, client, service_account,
    service_definition, service_failure, service_kind, shown,
};
use crate::supervise::{self, GRACE, PidFile, Running, ServerIdentity, ServerRecord, Started, observe};

const START: &str = "start";
const INSTALL: &str = "install";

pub(super) async fn inspect(setup: &Setup<'_>) -> Inspection {
    let mut inspection = look(setup).await;
    if setup.wanted.with_server
        && inspection.blocked.is_none()
        && matches!(inspection.condition, Condition::Needed(_))
        && let Some(failure) = unreachable_upstream(setup)
    {
        inspection = hindered(inspection, failure);
    }
    if let Some(fault) = setup.server_fault.clone() {
        inspection = with_fault(setup, inspection, fault);
    }
    let is_for_all = setup.wanted.chosen.scope == Destination::System || setup.site.layout.is_of_system();
    if !is_for_all || !matches!(inspection.condition, Condition::Needed(_)) {
        return inspection;
    }
    match check_machine_service(&setup.site) {
        Ok(()) => inspection,
        Err(failure) => unmanaged(setup, failure),
    }
}

/// Why a gateway that is started here could not reach the upstream: it would not start.
fn unreachable_upstream(setup: &Setup<'_>) -> Option<Failure> {
    let chosen = &setup.wanted.chosen;
    // The system starts the server for all users without the variables of this process.
    let is_elsewhere = chosen.scope == Destination::System || setup.site.layout.is_of_system();
    if chosen.direct || is_elsewhere || !setup.site.is_for_this_machine() {
        return None;
    }
    let network = Network::from_environment(&client::environment(setup), chosen.ca_cert.clone());
    let failure = Failure::from(network.and_then(|network| network.check()).err()?);
    let message = format!("cannot start the server: {}", failure.message);
    let settings = settings::load(&setup.site.places(), setup.site.environment);
    let file = client::variable(setup, &settings, CERTIFICATES).and_then(|found| found.file);
    let place = file.map_or_else(String::new, |file| format!("; {} sets it", shown(&file)));
    let hint = failure.hint.map(|hint| format!("{hint}{place}"));
    Some(Failure {
        message,
        hint,
        ..failure
    })
}

/// The `inspection` of a server that cannot be started because of `failure`.
fn hindered(mut inspection: Inspection, failure: Failure) -> Inspection {
    let fix = failure.hint.clone().map_or_else(Fix::repair, Fix::by_hand);
    inspection.checks.retain(|check| check.id != PROCESS.id);
    inspection.checks.insert(0, PROCESS.fail(&failure.message, fix));
    inspection.blocked_by(failure)
}

/// The `inspection` of a server whose next start would fail because of `fault`.
fn with_fault(setup: &Setup<'_>, mut inspection: Inspection, fault: Failure) -> Inspection {
    let is_started = setup.wanted.with_server && matches!(inspection.condition, Condition::Needed(_));
    if is_started && inspection.blocked.is_some() {
        return inspection;
    }
    let fix = fault.hint.clone().map_or_else(Fix::repair, Fix::by_hand);
    let detail = format!("the next start will fail: {}", fault.message);
    if is_started {
        let process = inspection
            .checks
            .iter_mut()
            .find(|check| check.id == PROCESS.id && check.has_failed());
        if let Some(check) = process {
            *check = PROCESS.skip("the server cannot use its options");
        }
        inspection.checks.push(OPTIONS.fail(detail, fix));
        let message = format!("cannot start the server: {}", fault.message);
        return inspection.blocked_by(Failure { message, ..fault });
    }
    if setup.wanted.with_server {
        inspection.checks.push(OPTIONS.warn(detail, fix));
        return inspection;
    }
    inspection.leaving(vec![OPTIONS.fail(detail, fix)])
}

/// The inspection if the system cannot run a server for all users.
fn unmanaged(setup: &Setup<'_>, failure: Failure) -> Inspection {
    let fix = failure.hint.clone().map_or_else(Fix::repair, Fix::by_hand);
    let reason = "this system cannot run a server for all users";
    let checks = vec![
        PROCESS.fail(&failure.message, fix),
        PORT.skip(reason),
        HEALTH.skip(reason),
    ];
    Inspection::needed(plan(setup), checks).blocked_by(failure)
}

async fn look(setup: &Setup<'_>) -> Inspection {
    if !setup.wanted.with_server {
        return unwanted(setup).await;
    }
    if !setup.site.is_for_this_machine() {
        return Inspection::needed(plan(setup), Vec::new());
    }
    match observe(&setup.site.layout) {
        Err(error) => {
            let detail = format!("the server's files cannot be read: {error}");
            let check = PROCESS.fail(detail, Fix::by_hand(supervise::remedy(&error)));
            Inspection::needed(plan(setup), vec![check])
        }
        Ok(Running::Supervised(record)) => inspect_supervised(setup, &record).await,
        Ok(Running::Unnamed) => unnamed(setup),
        Ok(Running::Bare { pid, port }) => bare(setup, pid, port).await,
        Ok(Running::Foreign(process)) => {
            let detail = format!(
                "{} names pid {}, which is `{}` and not a server of gem-setup",
                shown(&setup.site.layout.pid_file()),
                process.pid,
                process.command.join(" ")
            );
            not_running(setup, detail).await
        }
        Ok(Running::No) => {
            let detail = match PidFile::read(&setup.site.layout.pid_file()) {
                Ok(Some(file)) => format!(
                    "no server is running; {} is stale: it names pid {}, which is not a server of this home",
                    shown(&setup.site.layout.pid_file()),
                    file.pid
                ),
                _ => "no server is running".to_owned(),
            };
            not_running(setup, detail).await
        }
    }
}

fn plan(setup: &Setup<'_>) -> String {
    let how = if setup.wanted.chosen.scope == Destination::System {
        "for all users, by a systemd unit"
    } else if setup.wanted.chosen.direct {
        "runtime without gateway"
    } else {
        "gateway and runtime"
    };
    format!("start the server on port {} ({how})", setup.wanted.chosen.port)
}

fn skipped(reason: &str) -> Inspection {
    let checks = [PROCESS, PORT, HEALTH].map(|subject| subject.skip(reason));
    Inspection::not_needed(reason, checks.into())
}

/// The inspection if no server is wanted now. A later start fails if another program uses the port.
async fn unwanted(setup: &Setup<'_>) -> Inspection {
    let inspection = skipped("no server wanted (--no-start)");
    let port = setup.wanted.chosen.port;
    let is_idle = setup.site.is_for_this_machine()
        && matches!(observe(&setup.site.layout), Ok(Running::No | Running::Foreign(_)));
    match obstacle(setup, port).await {
        Some((_, check)) if is_idle => inspection.leaving(vec![check]),
        _ => inspection,
    }
}

/// The inspection if none of our servers is running: checks whether the port is free.
async fn not_running(setup: &Setup<'_>, detail: String) -> Inspection {
    let port = setup.wanted.chosen.port;
    let Some((fix, check)) = obstacle(setup, port).await else {
        let checks = vec![
            PROCESS.fail(detail, Fix::run(START)),
            PORT.ok(format!("port {port} is free")),
            HEALTH.skip("no server is running"),
        ];
        return Inspection::needed(plan(setup), checks);
    };
    without_port(setup, plan(setup), fix, check)
}

/// The inspection of a server that cannot listen on its port, as `check` says.
fn without_port(setup: &Setup<'_>, plan: String, fix: Fix, check: Check) -> Inspection {
    let failure = Failure::new(Kind::Conflict, format!("cannot start the server: {}", check.detail));
    let failure = failure.with_hint(advice::named(setup, fix).to_string());
    let checks = vec![
        PROCESS.skip("the server cannot use its port"),
        check,
        HEALTH.skip("no server is running on that port"),
    ];
    Inspection::needed(plan, checks).blocked_by(failure)
}

/// The inspection if a process holds the server's lock and has not written its process id.
fn unnamed(setup: &Setup<'_>) -> Inspection {
    let lock = shown(&setup.site.layout.server_lock_file());
    let detail = format!("a process holds {lock} but has not written its process id");
    let checks = vec![
        PROCESS.fail(
            &detail,
            Fix::by_hand("wait until the other gem-setup is done, or end it by its pid"),
        ),
        PORT.skip("which server holds the lock is unknown"),
        HEALTH.skip("which server holds the lock is unknown"),
    ];
    let failure = Failure::new(Kind::Conflict, format!("cannot start the server: {detail}")).with_hint(
        "wait until the other gem-setup is done; if its disk is full, free some space and end the server by its pid",
    );
    Inspection::needed(plan(setup), checks).blocked_by(failure)
}

async fn bare(setup: &Setup<'_>, pid: u32, port: u16) -> Inspection {
    let wanted = setup.wanted.chosen.port;
    let plan = format!("put the runtime on port {wanted} under supervision");
    if port != wanted
        && let Some((fix, check)) = obstacle(setup, wanted).await
    {
        return without_port(setup, plan, fix, check);
    }
    let detail = format!("a runtime that Gemini CLI started (pid {pid}) serves port {port} without a supervisor");
    let checks = vec![
        PROCESS.warn(detail, Fix::run(RESTART)),
        PORT.ok(format!("port {port} is held by pid {pid}")),
        HEALTH.skip("not a server of gem-setup"),
    ];
    Inspection::needed(plan, checks)
}

async fn inspect_supervised(setup: &Setup<'_>, record: &ServerRecord) -> Inspection {
    let pid = record.process.pid;
    let wanted = ServerSpec::installed(&setup.wanted.chosen, None, &[]).identity();
    if !record.server.satisfies(&wanted) {
        return inspect_other(setup, record, &wanted).await;
    }
    let port = PORT.ok(format!("pid {pid} listens on port {}", wanted.port));
    if is_runtime_replaced(setup, record) {
        let detail = format!("pid {pid} still runs the former runtime, which has been replaced");
        let process = PROCESS.fail(detail, Fix::run(RESTART));
        let checks = vec![process, port, HEALTH.skip("the server runs another runtime")];
        return Inspection::needed("restart the server with the new runtime", checks);
    }
    let given = record.given(&setup.site.layout).unwrap_or_default();
    if let Some(fault) = service_fault(setup, &given) {
        let process = PROCESS.fail(fault, Fix::repair());
        let checks = vec![process, port, HEALTH.skip("the service differs from the installed one")];
        return Inspection::needed("make the system run the server", checks);
    }
    let health = inspect_health(setup, &wanted, record).await;
    let process = match record.outdated() {
        Some(other) => PROCESS.warn(format!("pid {pid} runs {other}"), Fix::run(RESTART)),
        None => inspect_pid_file(setup, pid),
    };
    let checks = vec![process, port, health];
    let is_settled = |check: &Check| check.status == Status::Ok || is_outside(check);
    if checks.iter().all(is_settled) {
        Inspection::in_place(format!("pid {pid} serves port {}", wanted.port), checks)
    } else if checks.iter().all(|check| is_settled(check) || is_wait(check)) {
        Inspection::needed("wait until the server has loaded its model", checks)
    } else {
        Inspection::needed("restart the server", checks)
    }
}

/// The server of `record` differs from the `wanted` one.
async fn inspect_other(setup: &Setup<'_>, record: &ServerRecord, wanted: &ServerIdentity) -> Inspection {
    let plan = "restart the server as chosen";
    // Found before the running server is stopped.
    if record.server.port != wanted.port
        && let Some((fix, check)) = obstacle(setup, wanted.port).await
    {
        return without_port(setup, plan.to_owned(), fix, check);
    }
    let (serves, installed) = differences(&record.server, wanted);
    let pid = record.process.pid;
    let detail = format!("pid {pid} serves {serves}, but {installed} was installed");
    let checks = vec![
        // A restart keeps the options that caused the difference, so it would not help.
        PROCESS.fail(detail, Fix::run(INSTALL)),
        PORT.skip("another server is running"),
        HEALTH.skip("another server is running"),
    ];
    Inspection::needed(plan, checks)
}

/// What the server `found` has and what `wanted` has instead, in words.
fn differences(found: &ServerIdentity, wanted: &ServerIdentity) -> (String, String) {
    let parts = |server: &ServerIdentity| {
        let front = if server.direct { "no gateway" } else { "a gateway" };
        let model = match server.runtime == RuntimeName::Builtin.as_str() {
            true => "the model name",
            false => "the model",
        };
        [
            format!("port {}", server.port),
            format!("the runtime `{}`", server.runtime),
            format!("{model} `{}`", server.model),
            front.to_owned(),
        ]
    };
    let (found, wanted): (Vec<_>, Vec<_>) = parts(found)
        .into_iter()
        .zip(parts(wanted))
        .filter(|(found, wanted)| found != wanted)
        .unzip();
    (found.join(" with "), wanted.join(" with "))
}

/// Whether the runtime's executable is no longer the one from which the engine was started.
fn is_runtime_replaced(setup: &Setup<'_>, record: &ServerRecord) -> bool {
    // A server that follows the record may be between two engines; then none runs the former runtime.
    let engine = record.engine.as_ref();
    let engine = engine.filter(|engine| engine.process.is_some() || !record.follows);
    let started_from = engine.and_then(|engine| engine.program);
    let runtime = setup.runtime().ok();
    let now = runtime.as_deref().and_then(Runtime::program).and_then(ProgramStamp::of);
    // The check of the checksum reports damage, so only a different file counts here.
    started_from
        .zip(now)
        .is_some_and(|(before, now)| before.is_replaced_by(now))
}

pub(super) async fn apply(setup: &mut Setup<'_>) -> Result<String, Failure> {
    let layout = &setup.site.layout;
    let running = observe(layout);
    let given = match &running {
        Ok(Running::Supervised(record)) => record.given(layout)?,
        _ => Vec::new(),
    };
    let is_loading = match &running {
        Ok(Running::Supervised(record)) => inspect_supervised(setup, record).await.checks.iter().any(is_wait),
        _ => false,
    };
    if is_loading && !setup.wanted.force {
        return join(setup, &given).await;
    }
    if setup.wanted.chosen.scope == Destination::System {
        return serve_all_users(setup, &given).await;
    }
    // The process that a stale pid file names is not ours to stop. The server will write a new file.
    if !matches!(running, Ok(Running::No | Running::Foreign(_))) {
        supervise::stop(layout, GRACE).await?;
    }
    let spec = ServerSpec::installed(&setup.wanted.chosen, setup.site.config.as_deref(), &given);
    let request = spec.request(&setup.site);
    let starting = supervise::start(layout, &request);
    let started = waiting(setup.tools.progress, "server", supervise::STARTING, starting).await?;
    let left = running.ok().and_then(|running| left_port(&running, spec.chosen.port));
    Ok(serving(&started, &spec) + &left.unwrap_or_default())
}

/// Waits until the running server has loaded its model.
async fn join(setup: &Setup<'_>, given: &[String]) -> Result<String, Failure> {
    let spec = ServerSpec::installed(&setup.wanted.chosen, setup.site.config.as_deref(), given);
    let request = spec.request(&setup.site);
    let joining = supervise::join_running(&setup.site.layout, &request);
    let started = waiting(setup.tools.progress, "server", supervise::STARTING, joining).await?;
    Ok(serving(&started, &spec))
}

/// In words, the port that the former server had, if the new one has another: clients may still use it.
fn left_port(former: &Running, port: u16) -> Option<String> {
    let (pid, left) = match former {
        Running::Supervised(record) => (record.process.pid, record.server.port),
        Running::Bare { pid, port } => (*pid, *port),
        _ => return None,
    };
    (left != port).then(|| format!("; pid {pid} on port {left} was stopped"))
}

fn serving(started: &Started, spec: &ServerSpec) -> String {
    let without = started.blocked.as_ref().map_or("", |_| ", without a model");
    format!("pid {} serves port {}{without}", started.pid, spec.chosen.port)
}

/// Makes the system run the server, as a user of its own.
async fn serve_all_users(setup: &Setup<'_>, given: &[String]) -> Result<String, Failure> {
    let site = &setup.site;
    let (kind, account) = (
        service_kind(&site.layout, site.os()),
        service_account(&site.layout, site.environment),
    );
    let failed = |error: service::Error| service_failure(&error);
    service::probe(kind, &account, &Tools).map_err(failed)?;
    // The service starts the server again, with the changes.
    supervise::stop(&site.layout, GRACE).await?;
    // A runtime that root has run leaves files of root's in a home that was the service's.
    let home = site.layout.home();
    gem_platform::file::give_to_root(home).map_err(|error| {
        let message = format!("cannot prepare {} for the server's user: {error}", shown(home));
        Failure::new(Kind::Unexpected, message)
    })?;
    let spec = ServerSpec::installed(&setup.wanted.chosen, site.config.as_deref(), given);
    let installed = service::install(kind, &service_definition(&spec, site)?, &account, &Tools).map_err(failed)?;
    let request = spec.request(site);
    let joining = supervise::join_running(&site.layout, &request);
    let started = waiting(setup.tools.progress, "server", supervise::STARTING, joining).await?;
    Ok(format!(
        "{}, for all users, by {}",
        serving(&started, &spec),
        shown(&installed.definition)
    ))
}

/// The fault of the service for all users; `None` if it has none.
fn service_fault(setup: &Setup<'_>, given: &[String]) -> Option<String> {
    let site = &setup.site;
    if setup.wanted.chosen.scope != Destination::System {
        return None;
    }
    let (kind, account) = (
        service_kind(&site.layout, site.os()),
        service_account(&site.layout, site.environment),
    );
    let spec = ServerSpec::installed(&setup.wanted.chosen, site.config.as_deref(), given);
    let is_defined = service_definition(&spec, site)
        .and_then(|spec| service::is_defined(kind, &spec, &account).map_err(|error| service_failure(&error)));
    match is_defined {
        Ok(true) => None,
        Ok(false) => {
            let path = service::definition_path(kind, SERVICE, &account);
            Some(format!("{} is missing or was changed", shown(&path)))
        }
        Err(failure) => Some(failure.message),
    }
}
