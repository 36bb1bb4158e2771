//! The checks of a running server: its pid file, its health and its certificate.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::net::RAISE_LOOPBACK;
use crate::runtime::{EngineState, local};
use crate::setup::check::{Check, Fix, Subject};
use crate::setup::{Setup, advice, shown};
use crate::supervise::{self, EngineRecord, PidFile, ServerIdentity, ServerRecord};

pub(super) const PROCESS: Subject = Subject::new("server.process", "server process");
pub(super) const HEALTH: Subject = Subject::new("server.health", "server answers");
/// A gateway on loopback answers at once. If it needs longer than this, it is not healthy.
const PATIENCE: Duration = Duration::from_secs(5);
/// A certificate that expires sooner should be replaced; certificates are usually renewed a month before.
const SHORT: SignedDuration = SignedDuration::from_hours(14 * 24);
pub(super) const RESTART: &str = "restart";
/// A restart would load the model from the beginning.
const WAIT: &str = "status --wait 60";
const NEW_CERTIFICATE: &str = "replace the certificate and its key by new ones: the server reads them again";

/// Whether a restart of the server would leave the finding of `check` as it is.
pub(super) fn is_outside(check: &Check) -> bool {
    let advice = [NEW_CERTIFICATE, RAISE_LOOPBACK, supervise::REFUSED_REMEDY];
    matches!(&check.fix, Some(Fix::ByHand(what)) if advice.contains(&what.as_str()))
}

/// Whether the server resolves the finding of `check` by itself.
pub(super) fn is_wait(check: &Check) -> bool {
    check.fix.as_ref().and_then(Fix::args) == Some(WAIT)
}

pub(super) fn inspect_pid_file(setup: &Setup<'_>, pid: u32) -> Check {
    match PidFile::read(&setup.site.layout.pid_file()) {
        Ok(Some(file)) if file.pid == pid => PROCESS.ok(format!("pid {pid}")),
        Ok(Some(file)) => {
            let path = shown(&setup.site.layout.pid_file());
            let detail = format!(
                "{path} is stale: it names pid {}, but the server is pid {pid}",
                file.pid
            );
            PROCESS.fail(detail, Fix::run(RESTART))
        }
        _ => {
            let detail = format!(
                "pid {pid} is running, but {} does not name it",
                shown(&setup.site.layout.pid_file())
            );
            PROCESS.fail(detail, Fix::run(RESTART))
        }
    }
}

pub(super) async fn inspect_health(setup: &Setup<'_>, wanted: &ServerIdentity, record: &ServerRecord) -> Check {
    let port = wanted.port;
    if let Some(missing) = record.engine.as_ref().and_then(|engine| engine.blocked.as_ref()) {
        return without_model(setup, port, missing);
    }
    if wanted.direct
        && let Some(closed) = setup.closed().await
    {
        let fix = Fix::repair_accepting();
        return HEALTH.fail(format!("no request was sent to the runtime: {closed}"), fix);
    }
    let answer = if wanted.direct {
        // Without a gateway, the runtime gets Gemini CLI's own probe (docs/facts.md section 3).
        let path = format!("/v1beta/models/{}:generateContent", wanted.model);
        local::post(record.peer(), &path, None, PATIENCE).await
    } else {
        local::fetch(record.peer(), "/readyz", PATIENCE).await
    };
    match answer {
        Ok(answer) if answer.status == 200 || (wanted.direct && answer.status != 404) => {
            let remote = supervise::ask(record).await;
            let certificate = remote.and_then(|remote| certificate_fault(remote.certificate_until?));
            let fault = certificate.or_else(|| refused(record.engine.as_ref()?));
            fault.unwrap_or_else(|| HEALTH.ok(format!("ready on port {port}")))
        }
        Ok(answer) => {
            // The server may not have noticed yet.
            match setup.closed().await {
                Some(closed) => without_model(setup, port, &closed.in_words()),
                None => not_ready(record.engine.as_ref(), port, answer.status),
            }
        }
        Err(error) => {
            let fix = match error {
                local::Error::NoLoopback => Fix::by_hand(RAISE_LOOPBACK),
                _ => Fix::run(RESTART),
            };
            HEALTH.fail(error.to_string(), fix)
        }
    }
}

/// The warning about an engine that answers, but refused the request with which its model is loaded.
fn refused(engine: &EngineRecord) -> Option<Check> {
    let fault = engine.fault.as_ref().filter(|_| engine.state == EngineState::Ready)?;
    Some(HEALTH.warn(fault, Fix::by_hand(supervise::REFUSED_REMEDY)))
}

fn not_ready(engine: Option<&EngineRecord>, port: u16, status: u16) -> Check {
    let state = match engine.map_or(EngineState::Starting, |engine| engine.state) {
        EngineState::Starting => {
            let detail = format!("port {port} answers {status}: the runtime is starting and loads its model");
            return HEALTH.fail(detail, Fix::run(WAIT));
        }
        EngineState::CrashLoop => "in a crash loop",
        state => state.as_str(),
    };
    let why = engine.and_then(|engine| engine.last_exit.as_ref());
    let why = why.map_or_else(String::new, |why| format!("; the last one: {why}"));
    let detail = format!("port {port} answers {status}: the runtime is {state}{why}");
    HEALTH.fail(detail, Fix::by_hand(advice::READ_LOG))
}

/// The fault of a gateway's certificate that is valid until `until`. A gateway continues with an expired one.
fn certificate_fault(until: Timestamp) -> Option<Check> {
    let fix = Fix::by_hand(NEW_CERTIFICATE);
    let left = until.duration_since(Timestamp::now());
    if left.is_negative() {
        return Some(HEALTH.fail(
            format!("clients refuse the gateway: its certificate expired at {until}"),
            fix,
        ));
    }
    (left < SHORT).then(|| HEALTH.warn(format!("the gateway's certificate expires at {until}"), fix))
}

/// The check if the gateway answers but its engine waits for a `missing` item.
fn without_model(setup: &Setup<'_>, port: u16, missing: &str) -> Check {
    if !setup.wanted.with_model {
        let detail = format!("the built-in classifier answers on port {port} (--no-model)");
        return HEALTH.ok(detail);
    }
    let detail = format!("the built-in classifier answers on port {port}, but the model does not: {missing}");
    HEALTH.warn(detail, Fix::repair_accepting())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::Status;

    #[test]
    fn a_short_certificate_needs_no_restart() {
        let soon = certificate_fault(Timestamp::now() + SignedDuration::from_hours(5 * 24)).unwrap();
        assert_eq!(soon.status, Status::Warn);
        let expired = certificate_fault(Timestamp::now() - SignedDuration::from_hours(1)).unwrap();
        assert!(expired.has_failed());
        assert!(is_outside(&soon) && is_outside(&expired));
        assert!(!is_outside(
            &HEALTH.fail("in a crash loop", Fix::by_hand(advice::READ_LOG))
        ));
    }

    #[test]
    fn a_server_that_loads_its_model_is_waited_for() {
        let mut engine = EngineRecord {
            process: None,
            port: 0,
            state: EngineState::Starting,
            restarts: 0,
            program: None,
            last_exit: None,
            fault: None,
            blocked: None,
        };
        assert!(is_wait(&not_ready(Some(&engine), 9379, 503)));
        engine.state = EngineState::CrashLoop;
        assert!(!is_wait(&not_ready(Some(&engine), 9379, 503)));
    }
}
