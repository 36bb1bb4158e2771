//! The server: running as chosen, and answering.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use gem_platform::process::{identity, listener_on};

use crate::error::{Failure, Kind};
use crate::progress::waiting;
use crate::runtime::{EngineState, Runtime, Stamp, local};
use crate::setup::check::{Check, Fix};
use crate::setup::step::Inspection;
use crate::setup::{ServerSpec, Setup, advice, shown};
use crate::supervise::{self, GRACE, PidFile, Running, ServerIdentity, ServerRecord, observe};
use crate::text::one_line;

const PROCESS: (&str, &str) = ("server.process", "server process");
pub(super) const PORT: (&str, &str) = ("server.port", "server port");
const HEALTH: (&str, &str) = ("server.health", "server answers");
/// A gateway on loopback answers at once; longer than this it is not healthy.
const PATIENCE: Duration = Duration::from_secs(5);
const START: &str = "start";
const RESTART: &str = "restart";

pub(super) async fn inspect(setup: &Setup<'_>) -> Inspection {
    if !setup.wanted.with_server {
        return unwanted(setup).await;
    }
    if !setup.site.is_for_this_machine() {
        return Inspection::needed(plan(setup), Vec::new());
    }
    match observe(&setup.site.layout) {
        Err(error) => {
            let detail = format!("the server's files cannot be read: {error}");
            let check = Check::fail(
                PROCESS.0,
                PROCESS.1,
                detail,
                Fix::by_hand("check that the home's files are yours"),
            );
            Inspection::needed(plan(setup), vec![check])
        }
        Ok(Running::Supervised(record)) => inspect_supervised(setup, &record).await,
        Ok(Running::Unnamed) => unnamed(setup),
        Ok(Running::Bare { pid, port }) => bare(setup, pid, port),
        Ok(Running::Foreign(process)) => {
            let detail = format!(
                "{} names pid {}, which is `{}` and no server of ours",
                shown(&setup.site.layout.pid_file()),
                process.pid,
                process.command.join(" ")
            );
            not_running(setup, detail).await
        }
        Ok(Running::No) => {
            let detail = match PidFile::read(&setup.site.layout.pid_file()) {
                Ok(Some(file)) => format!(
                    "no server is running; {} is stale: it names pid {}, which is no server of this home",
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
    let how = if setup.wanted.chosen.direct {
        "the runtime alone"
    } else {
        "gateway and runtime"
    };
    format!("start the server on port {} ({how})", setup.wanted.chosen.port)
}

fn skipped(reason: &str) -> Inspection {
    let checks = [PROCESS, PORT, HEALTH].map(|(id, title)| Check::skip(id, title, reason));
    Inspection::not_needed(reason, checks.into())
}

/// No server is wanted now. A later start fails if another program has the port.
async fn unwanted(setup: &Setup<'_>) -> Inspection {
    let inspection = skipped("no server wanted (--no-start)");
    let port = setup.wanted.chosen.port;
    let is_idle = setup.site.is_for_this_machine()
        && matches!(observe(&setup.site.layout), Ok(Running::No | Running::Foreign(_)));
    if is_idle && is_taken(port).await {
        let (_, check) = taken(port);
        return inspection.leaving(vec![check]);
    }
    inspection
}

/// Another program has `port`: the fix, and the failed check.
fn taken(port: u16) -> (Fix, Check) {
    let detail = format!("port {port} is taken by {}", holder_of(port));
    let fix = match supervise::free_port_after(port) {
        Some(free) => Fix::run_or(format!("install --port {free}"), "end that process"),
        None => Fix::by_hand("end that process"),
    };
    (fix.clone(), Check::fail(PORT.0, PORT.1, detail, fix))
}

/// No server of ours: is the port free for one?
async fn not_running(setup: &Setup<'_>, detail: String) -> Inspection {
    let port = setup.wanted.chosen.port;
    let health = Check::skip(HEALTH.0, HEALTH.1, "no server is running");
    if !is_taken(port).await {
        let checks = vec![
            Check::fail(PROCESS.0, PROCESS.1, detail, Fix::run(START)),
            Check::ok(PORT.0, PORT.1, format!("port {port} is free")),
            health,
        ];
        return Inspection::needed(plan(setup), checks);
    }
    let (fix, check) = taken(port);
    let failure = Failure::new(Kind::Conflict, format!("cannot start the server: {}", check.detail));
    let failure = failure.with_hint(advice::named(setup, fix).to_string());
    let checks = vec![
        Check::skip(PROCESS.0, PROCESS.1, "another program has the port"),
        check,
        health,
    ];
    Inspection::needed(plan(setup), checks).blocked_by(failure)
}

async fn is_taken(port: u16) -> bool {
    tokio::time::timeout(Duration::from_secs(1), local::is_listening(port))
        .await
        .unwrap_or(true)
}

fn holder_of(port: u16) -> String {
    let Some(found) = listener_on(IpAddr::V4(Ipv4Addr::LOCALHOST), port) else {
        return "another program".to_owned();
    };
    let command = identity(found.pid).map(|process| process.command.join(" "));
    let command = command.filter(|command| !command.is_empty()).unwrap_or(found.name);
    format!("`{}` (pid {})", one_line(&command), found.pid)
}

/// A process holds the server's lock and has not written which one it is.
fn unnamed(setup: &Setup<'_>) -> Inspection {
    let lock = shown(&setup.site.layout.server_lock_file());
    let detail = format!("a process holds {lock} and has not written which one it is");
    let checks = vec![
        Check::fail(
            PROCESS.0,
            PROCESS.1,
            &detail,
            Fix::by_hand("wait until the other gem-setup is done, or end it by its pid"),
        ),
        Check::skip(PORT.0, PORT.1, "the server is not known"),
        Check::skip(HEALTH.0, HEALTH.1, "the server is not known"),
    ];
    let failure = Failure::new(Kind::Conflict, format!("cannot start the server: {detail}")).with_hint(
        "wait until the other gem-setup is done; if its disk is full, free some room and end the server by its pid",
    );
    Inspection::needed(plan(setup), checks).blocked_by(failure)
}

fn bare(setup: &Setup<'_>, pid: u32, port: u16) -> Inspection {
    let detail = format!("a runtime that Gemini CLI started (pid {pid}) serves port {port} without a supervisor");
    let checks = vec![
        Check::warn(PROCESS.0, PROCESS.1, detail, Fix::run(RESTART)),
        Check::ok(PORT.0, PORT.1, format!("port {port} is held by pid {pid}")),
        Check::skip(HEALTH.0, HEALTH.1, "not a server of gem-setup"),
    ];
    Inspection::needed(
        format!("put the runtime on port {} under supervision", setup.wanted.chosen.port),
        checks,
    )
}

async fn inspect_supervised(setup: &Setup<'_>, record: &ServerRecord) -> Inspection {
    let pid = record.process.pid;
    let wanted = ServerSpec::installed(&setup.wanted.chosen, None, &[]).identity();
    if !record.server.satisfies(&wanted) {
        let detail = format!(
            "pid {pid} serves port {} with {}, but port {} with {} was installed",
            record.server.port, record.server.runtime, wanted.port, wanted.runtime
        );
        let checks = vec![
            Check::fail(PROCESS.0, PROCESS.1, detail, Fix::run(RESTART)),
            Check::skip(PORT.0, PORT.1, "another server runs"),
            Check::skip(HEALTH.0, HEALTH.1, "another server runs"),
        ];
        return Inspection::needed("restart the server as chosen", checks);
    }
    if is_runtime_replaced(setup, record) {
        let detail = format!("pid {pid} still runs the runtime that was replaced after its start");
        let checks = vec![
            Check::fail(PROCESS.0, PROCESS.1, detail, Fix::run(RESTART)),
            Check::ok(PORT.0, PORT.1, format!("pid {pid} listens on port {}", wanted.port)),
            Check::skip(HEALTH.0, HEALTH.1, "the server runs another runtime"),
        ];
        return Inspection::needed("restart the server with the new runtime", checks);
    }
    let mut checks = vec![
        inspect_pid_file(setup, pid),
        Check::ok(PORT.0, PORT.1, format!("pid {pid} listens on port {}", wanted.port)),
    ];
    let health = inspect_health(setup, &wanted, record).await;
    checks.push(health);
    if checks.iter().all(|check| check.status == crate::setup::Status::Ok) {
        Inspection::in_place(format!("pid {pid} serves port {}", wanted.port), checks)
    } else {
        Inspection::needed("restart the server", checks)
    }
}

/// Whether the runtime's executable is no longer the one that the engine was started from.
fn is_runtime_replaced(setup: &Setup<'_>, record: &ServerRecord) -> bool {
    let started_from = record.child.as_ref().and_then(|child| child.program);
    let runtime = setup.runtime().ok();
    let now = runtime.as_deref().and_then(Runtime::program).and_then(Stamp::of);
    // Damage is for the check of the checksum to find.
    started_from
        .zip(now)
        .is_some_and(|(before, now)| !before.is_of_one_time(now))
}

fn inspect_pid_file(setup: &Setup<'_>, pid: u32) -> Check {
    match PidFile::read(&setup.site.layout.pid_file()) {
        Ok(Some(file)) if file.pid == pid => Check::ok(PROCESS.0, PROCESS.1, format!("pid {pid}")),
        Ok(Some(file)) => {
            let path = shown(&setup.site.layout.pid_file());
            let detail = format!("{path} is stale: it names pid {}, the server is pid {pid}", file.pid);
            Check::fail(PROCESS.0, PROCESS.1, detail, Fix::run(RESTART))
        }
        _ => {
            let detail = format!(
                "pid {pid} runs, but {} does not name it",
                shown(&setup.site.layout.pid_file())
            );
            Check::fail(PROCESS.0, PROCESS.1, detail, Fix::run(RESTART))
        }
    }
}

async fn inspect_health(setup: &Setup<'_>, wanted: &ServerIdentity, record: &ServerRecord) -> Check {
    let port = wanted.port;
    if let Some(missing) = record.child.as_ref().and_then(|child| child.blocked.as_ref()) {
        return without_model(setup, port, missing);
    }
    if wanted.direct
        && let Some(closed) = setup.closed().await
    {
        let fix = Fix::repair_accepting();
        return Check::fail(HEALTH.0, HEALTH.1, format!("the runtime is not asked: {closed}"), fix);
    }
    let answer = if wanted.direct {
        // Without a gateway the runtime is asked as Gemini CLI asks it (docs/facts.md section 3).
        let path = format!("/v1beta/models/{}:generateContent", wanted.model);
        local::post(record.peer(), &path, None, PATIENCE).await
    } else {
        local::fetch(record.peer(), "/readyz", PATIENCE).await
    };
    match answer {
        Ok(answer) if answer.status == 200 || (wanted.direct && answer.status != 404) => {
            Check::ok(HEALTH.0, HEALTH.1, format!("ready on port {port}"))
        }
        Ok(answer) => {
            // The server may have noticed less than a moment ago.
            if let Some(closed) = setup.closed().await {
                return without_model(setup, port, &closed.in_words());
            }
            let state = record.child.as_ref().map_or(EngineState::Starting, |child| child.state);
            let why = record.child.as_ref().and_then(|child| child.last_exit.clone());
            let why = why.map_or_else(String::new, |why| format!("; the last one: {why}"));
            let detail = format!("port {port} answers {}: the runtime is {state}{why}", answer.status);
            Check::fail(
                HEALTH.0,
                HEALTH.1,
                detail,
                Fix::by_hand("fix the error shown by `gem-setup logs`, then run `gem-setup restart`"),
            )
        }
        Err(error) => Check::fail(HEALTH.0, HEALTH.1, error.to_string(), Fix::run(RESTART)),
    }
}

/// The gateway answers; its engine waits for a `missing` item.
fn without_model(setup: &Setup<'_>, port: u16, missing: &str) -> Check {
    if !setup.wanted.with_model {
        let detail = format!("the built-in classifier answers on port {port} (--no-model)");
        return Check::ok(HEALTH.0, HEALTH.1, detail);
    }
    let detail = format!("the built-in classifier answers on port {port}, the model does not: {missing}");
    Check::warn(HEALTH.0, HEALTH.1, detail, Fix::repair_accepting())
}

pub(super) async fn apply(setup: &mut Setup<'_>) -> Result<String, Failure> {
    let layout = &setup.site.layout;
    let running = observe(layout);
    let given = match &running {
        Ok(Running::Supervised(record)) => record.given(layout)?,
        _ => Vec::new(),
    };
    // The process that a stale pid file names is not ours to stop; the server writes a new file.
    if !matches!(running, Ok(Running::No | Running::Foreign(_))) {
        supervise::stop(layout, GRACE).await?;
    }
    let spec = ServerSpec::installed(&setup.wanted.chosen, setup.site.config.as_deref(), &given);
    let request = spec.request(&setup.site);
    let starting = supervise::start(layout, &request);
    let started = waiting(setup.tools.progress, "server", supervise::STARTING, starting).await?;
    let without = started.blocked.map_or("", |_| ", without a model");
    Ok(format!("pid {} serves port {}{without}", started.pid, spec.chosen.port))
}
