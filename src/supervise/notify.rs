//! Notifications to systemd: ready, status, stopping, watchdog (sd_notify(3)).

use std::ffi::OsString;
use std::time::Duration;

use gem_platform::process::notify;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::environment::Environment;
use crate::runtime::{EngineState, EngineStatus};

/// The service manager that started this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceManager {
    socket: OsString,
    watchdog: Option<Duration>,
}

/// The interval at which systemd is asked for more time while a model is loading.
const EXTENSION: Duration = Duration::from_secs(30);

impl ServiceManager {
    /// The service manager that the environment names (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`).
    #[must_use]
    pub fn find(environment: &Environment) -> Option<Self> {
        let socket = environment.var("NOTIFY_SOCKET")?.into();
        let meant = environment
            .var("WATCHDOG_PID")
            .is_none_or(|pid| pid == std::process::id().to_string());
        let watchdog = environment
            .var("WATCHDOG_USEC")
            .filter(|_| meant)
            .and_then(|microseconds| microseconds.parse().ok())
            .filter(|microseconds| *microseconds > 0)
            .map(Duration::from_micros);
        Some(Self { socket, watchdog })
    }

    /// Errors are ignored: the server continues without its service manager.
    fn tell(&self, message: &str) {
        let _ = notify(&self.socket, message);
    }

    /// Reports that the server is stopping, and asks for the time that this takes, because options may have changed
    /// since the unit was written.
    pub(super) fn stopping(&self, within: Duration) {
        self.tell(&format!(
            "STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC={}",
            within.as_micros()
        ));
    }

    /// Reports every change of `status`. Never returns.
    pub(super) async fn follow(&self, mut status: watch::Receiver<EngineStatus>) {
        let beat = self.watchdog.map_or(EXTENSION / 3, |limit| limit / 2);
        let mut beat = interval(beat.clamp(Duration::from_millis(1), EXTENSION / 3));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut announced = false;
        let mut open = true;
        loop {
            tokio::select! {
                changed = status.changed(), if open => open = changed.is_ok(),
                _ = beat.tick() => {
                    if self.watchdog.is_some() {
                        self.tell("WATCHDOG=1");
                    }
                    if !announced {
                        self.tell(&format!("EXTEND_TIMEOUT_USEC={}", EXTENSION.as_micros()));
                    }
                    continue;
                }
            }
            let (state, text) = {
                let status = status.borrow_and_update();
                (status.state, describe(&status))
            };
            // The gateway serves without an engine that cannot start or stay. The server is then as ready as it can be.
            let is_up = matches!(
                state,
                EngineState::Ready | EngineState::CrashLoop | EngineState::Blocked
            );
            if is_up && !announced {
                announced = true;
                self.tell(&format!("READY=1\nSTATUS={text}"));
            } else {
                self.tell(&format!("STATUS={text}"));
            }
        }
    }
}

fn describe(status: &EngineStatus) -> String {
    let state = status.state;
    match &status.last_exit {
        Some(reason) if state != EngineState::Ready => format!("{state} ({reason})"),
        _ => state.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::of(variables, "/", "/")
    }

    #[test]
    fn the_service_manager_is_found_in_the_environment() {
        assert_eq!(ServiceManager::find(&environment(&[])), None);
        let ours = std::process::id().to_string();
        let cases = [
            (vec![], None),
            (vec![("WATCHDOG_USEC", "2000000")], Some(Duration::from_secs(2))),
            (
                vec![("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", &ours)],
                Some(Duration::from_secs(2)),
            ),
            (vec![("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "1")], None),
            (vec![("WATCHDOG_USEC", "0")], None),
        ];
        for (mut variables, watchdog) in cases {
            variables.push(("NOTIFY_SOCKET", "/run/x"));
            let found = ServiceManager::find(&environment(&variables)).unwrap();
            assert_eq!(found.watchdog, watchdog, "{variables:?}");
        }
    }

    /// What a service manager hears of a server.
    struct Hearing {
        systemd: gem_setup_support::service_manager::ServiceManager,
        heard: Vec<String>,
    }

    impl Hearing {
        /// Listens to a server whose status is `changes`; `None` where the system has no such sockets.
        fn of(directory: &std::path::Path, changes: watch::Receiver<EngineStatus>) -> Option<Self> {
            let path = directory.join("notify");
            let systemd = gem_setup_support::service_manager::ServiceManager::listen(&path).unwrap()?;
            let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "20000")];
            let service = ServiceManager::find(&environment(&variables)).unwrap();
            tokio::spawn(async move { service.follow(changes).await });
            let heard = Vec::new();
            Some(Self { systemd, heard })
        }

        /// All messages since the last call, up to the first that contains `wanted`.
        async fn next(&mut self, wanted: &str) -> Vec<String> {
            while !self.heard.iter().any(|message| message.contains(wanted)) {
                let message = tokio::time::timeout(Duration::from_secs(20), self.systemd.message()).await;
                self.heard.push(message.unwrap().unwrap());
            }
            std::mem::take(&mut self.heard)
        }
    }

    #[tokio::test]
    async fn systemd_hears_ready_once_then_the_state_and_the_beat_of_the_watchdog() {
        let directory = tempfile::tempdir().unwrap();
        let (status, changes) = watch::channel(EngineStatus::starting());
        let Some(mut hearing) = Hearing::of(directory.path(), changes) else {
            return;
        };
        let before = hearing.next("EXTEND_TIMEOUT_USEC=").await;
        assert!(before.iter().all(|message| !message.contains("READY")), "{before:?}");
        status.send_modify(|status| status.state = EngineState::Ready);
        hearing.next("READY=1\nSTATUS=ready").await;
        status.send_modify(|status| {
            status.state = EngineState::Restarting;
            status.last_exit = Some("hung".to_owned());
        });
        hearing.next("STATUS=restarting (hung)").await;
        status.send_modify(|status| status.state = EngineState::Ready);
        let later = hearing.next("STATUS=ready").await;
        assert!(later.iter().all(|message| !message.contains("READY")), "{later:?}");
        hearing.next("WATCHDOG=1").await;
    }

    #[tokio::test]
    async fn a_server_that_waits_for_its_model_is_ready_for_systemd() {
        let directory = tempfile::tempdir().unwrap();
        let (status, changes) = watch::channel(EngineStatus::starting());
        let Some(mut hearing) = Hearing::of(directory.path(), changes) else {
            return;
        };
        status.send_modify(|status| status.state = EngineState::Blocked);
        hearing.next("READY=1\nSTATUS=blocked").await;
        hearing.next("WATCHDOG=1").await;
        let later = hearing.next("WATCHDOG=1").await;
        assert!(
            later.iter().all(|message| !message.contains("EXTEND_TIMEOUT")),
            "{later:?}"
        );
    }
}
