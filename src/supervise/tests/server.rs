//! The server as others find it: claimed, started, killed, stopped.

use std::process::{Command, Stdio};

use gem_platform::process::kill;

use super::*;
use crate::error::{Explain, Kind};
use crate::lock::Lock;

fn request(home: &Home, port: u16) -> StartRequest {
    StartRequest {
        program: roles::server(home, port),
        reaper: None,
        server: identity_of(port),
        within: GUARD,
    }
}

fn running(home: &Home) -> ServerRecord {
    match observe(&home.layout).unwrap() {
        Running::Supervised(record) => *record,
        other => panic!("{other:?}\n{}", home.log()),
    }
}

fn engine_of(record: &ServerRecord) -> Identity {
    record.engine.as_ref().unwrap().process.clone().unwrap()
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A process that has nothing to do with gem-setup and ends with the test.
struct Stranger(std::process::Child);

impl Stranger {
    fn start(home: &Home) -> Self {
        Self::start_at(home, 0)
    }

    fn start_at(home: &Home, port: u16) -> Self {
        let program = roles::stand_in().at_port(port);
        let engine = Command::new(program.path)
            .args(program.args)
            .env("STAND_IN_CONTROL", home.control())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(engine.unwrap())
    }

    fn identity(&self) -> Identity {
        identity(self.0.id()).unwrap()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_started_server_is_found_by_all_and_stopped() {
    let home = Home::new("slow-start=100");
    let started = start(&home.layout, &request(&home, 45001)).await.unwrap();
    assert!(!started.already);
    let record = running(&home);
    assert!(record.ready);
    assert_eq!(record.process.pid, started.pid);
    assert_eq!(record.engine.as_ref().unwrap().state, EngineState::Ready);
    let file = PidFile::read(&home.layout.pid_file()).unwrap().unwrap();
    assert_eq!((file.pid, file.port), (started.pid, Some(45001)));

    let again = start(&home.layout, &request(&home, 45001)).await.unwrap();
    assert_eq!(
        again,
        Started {
            pid: started.pid,
            already: true,
            blocked: None
        }
    );
    let other = start(&home.layout, &request(&home, 45002)).await.unwrap_err();
    assert_eq!(other.kind(), Kind::Conflict);
    assert!(other.to_string().contains(&started.pid.to_string()), "{other}");

    let engine = engine_of(&record);
    let stopped = stop(&home.layout, GUARD).await.unwrap();
    assert_eq!(stopped, Stopped::Gracefully { pid: started.pid });
    assert!(!is_alive(&record.process) && !is_alive(&engine));
    assert!(!home.layout.pid_file().exists() && !home.layout.server_file().exists());
    assert_eq!(stop(&home.layout, GUARD).await.unwrap(), Stopped::NotRunning);
}

#[tokio::test]
async fn the_engine_of_a_killed_server_ends_with_it() {
    let home = Home::new("ignore-sigterm");
    start(&home.layout, &request(&home, 45003)).await.unwrap();
    let record = running(&home);
    let engine = engine_of(&record);
    kill(&record.process).unwrap();
    until_gone(&record.process).await;
    until_gone(&engine).await;
    // The killed server's files are no obstacle.
    assert_eq!(observe(&home.layout).unwrap(), Running::No);
    home.behave("");
    let started = start(&home.layout, &request(&home, 45003)).await.unwrap();
    assert!(!started.already);
    stop(&home.layout, GUARD).await.unwrap();
}

#[tokio::test]
async fn a_server_in_a_crash_loop_is_told_with_the_tail_of_its_log_and_goes_on() {
    let home = Home::new("crash-at-start");
    let error = start(&home.layout, &request(&home, 45004)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Runtime);
    assert!(matches!(error, StartError::CrashLoop { .. }), "{error}");
    assert!(error.to_string().contains("cannot load libvulkan.so.1"), "{error}");
    let pid = running(&home).process.pid;
    assert_eq!(stop(&home.layout, GUARD).await.unwrap(), Stopped::Gracefully { pid });
}

#[tokio::test]
async fn a_server_that_ends_at_once_is_told_at_once_with_what_it_said() {
    let home = Home::new("");
    let mut request = request(&home, 45005);
    request.program = this_program("no-such-test");
    request.program.args.push("--no-such-option".into());
    request.program.args.remove(4);
    let error = start(&home.layout, &request).await.unwrap_err();
    assert!(matches!(error, StartError::Ended { .. }), "{error}");
    assert!(error.to_string().contains("no-such-option"), "{error}");
}

#[tokio::test]
async fn a_foreign_process_in_the_pid_file_is_never_signalled() {
    let home = Home::new("");
    let stranger = Stranger::start(&home);
    let pid = stranger.0.id();
    fs::create_dir_all(home.layout.tmp()).unwrap();
    for (text, is_kept) in [
        (format!("{pid}"), true),
        (format!(r#"{{"pid":{pid},"binaryPath":"/opt/lit","port":9379}}"#), false),
    ] {
        fs::write(home.layout.pid_file(), text).unwrap();
        assert_eq!(stop(&home.layout, GUARD).await.unwrap(), Stopped::NotRunning);
        assert_eq!(home.layout.pid_file().exists(), is_kept);
    }
    assert!(is_alive(&stranger.identity()));
}

#[tokio::test]
async fn a_stale_pid_file_is_cleared_away() {
    let home = Home::new("");
    let stranger = Stranger::start(&home);
    let identity = stranger.identity();
    let stale = PidFile {
        pid: identity.pid,
        binary_path: Some("gem-setup".into()),
        port: Some(9379),
        start_time: Some(identity.start_time + 1),
    };
    stale.write(&home.layout.pid_file()).unwrap();
    assert_eq!(stop(&home.layout, GUARD).await.unwrap(), Stopped::NotRunning);
    assert!(!home.layout.pid_file().exists());
    assert!(is_alive(&identity));
    drop(stranger);
    stale.write(&home.layout.pid_file()).unwrap();
    assert_eq!(stop(&home.layout, GUARD).await.unwrap(), Stopped::NotRunning);
    assert!(!home.layout.pid_file().exists());
}

#[tokio::test]
async fn a_server_that_gemini_cli_started_by_itself_is_stopped_too() {
    let home = Home::new("");
    let port = free_port();
    let mut stranger = Stranger::start_at(&home, port);
    let identity = stranger.identity();
    let file = PidFile {
        pid: identity.pid,
        binary_path: Some(std::env::current_exe().unwrap()),
        port: Some(port),
        start_time: None,
    };
    file.write(&home.layout.pid_file()).unwrap();
    let listens = async {
        while !crate::runtime::local::is_listening(port).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(GUARD, listens).await.unwrap();
    let reaper = std::thread::spawn(move || stranger.0.wait());
    let stopped = stop(&home.layout, GUARD).await.unwrap();
    assert_eq!(stopped, Stopped::Gracefully { pid: identity.pid });
    reaper.join().unwrap().unwrap();
}

fn record_with_engine(engine: &Identity) -> ServerRecord {
    ServerRecord {
        process: Identity {
            start_time: 1,
            ..engine.clone()
        },
        pid_space: gem_platform::process::pid_space(),
        instance: None,
        program: None,
        server: identity_of(9379),
        ready: true,
        stopping: false,
        follows: true,
        unapplied: None,
        engine: Some(EngineRecord {
            process: Some(engine.clone()),
            port: 1,
            state: EngineState::Ready,
            restarts: 0,
            last_exit: None,
            fault: None,
            blocked: None,
            program: None,
        }),
        silent: false,
    }
}

#[test]
fn only_a_server_that_has_the_home_is_waited_for() {
    let home = Home::new("");
    let process = identity(std::process::id()).unwrap();
    let mut record = record_with_engine(&process);
    record.stopping = true;
    record.write(&home.layout.server_file()).unwrap();
    assert_eq!(ends_within(&home.layout), None, "a killed server left its record");
    let _lock = Lock::try_acquire(&home.layout.server_lock_file()).unwrap();
    assert!(ends_within(&home.layout).is_some());
}

#[tokio::test]
async fn a_record_alone_ends_no_process() {
    let home = Home::new("");
    let log = Log::start(home.layout.log_file()).unwrap();
    let stranger = Stranger::start(&home);
    record_with_engine(&stranger.identity())
        .write(&home.layout.server_file())
        .unwrap();
    drop(Claim::acquire(&home.layout, &identity_of(9379), "gem-setup".as_ref(), &log).unwrap());
    record_with_engine(&stranger.identity())
        .write(&home.layout.server_file())
        .unwrap();
    assert_eq!(stop(&home.layout, GUARD).await.unwrap(), Stopped::NotRunning);
    assert!(is_alive(&stranger.identity()));
}

#[tokio::test]
#[cfg_attr(windows, ignore = "Windows ends an engine with its supervisor")]
async fn a_leftover_engine_is_ended_by_the_lock_that_it_holds() {
    let home = Home::new("");
    let log = Log::start(home.layout.log_file()).unwrap();
    let lock = Lock::try_acquire(&home.layout.engine_lock_file()).unwrap().unwrap();
    let guard = gem_platform::process::Guard::new(roles::guard()).with_inherited(lock.share().unwrap());
    let mut engine = gem_platform::process::Supervised::spawn(&roles::stand_in().at_port(0), &guard).unwrap();
    drop(lock);
    // The guard lives on, without its handle to the lock.
    let _guard = guard.with_inherited(fs::File::open(home.control()).unwrap());
    let leftover = identity(engine.id()).unwrap();
    let mut other = leftover.clone();
    other.start_time += 1;
    record_with_engine(&other).write(&home.layout.server_file()).unwrap();
    drop(Claim::acquire(&home.layout, &identity_of(9379), "gem-setup".as_ref(), &log).unwrap());
    assert!(is_alive(&leftover));
    log.flush();
    assert!(
        home.log().contains("an engine of an earlier server is still running"),
        "{}",
        home.log()
    );
    record_with_engine(&leftover).write(&home.layout.server_file()).unwrap();
    let _claim = Claim::acquire(&home.layout, &identity_of(9379), "gem-setup".as_ref(), &log).unwrap();
    timeout(GUARD, engine.wait()).await.unwrap().unwrap();
    log.flush();
    assert!(
        home.log().contains("left behind by an earlier server"),
        "{}",
        home.log()
    );
}

#[tokio::test]
async fn a_second_supervisor_is_told_who_serves() {
    let home = Home::new("");
    let log = Log::start(home.layout.log_file()).unwrap();
    let acquire = |port| Claim::acquire(&home.layout, &identity_of(port), "gem-setup".as_ref(), &log);
    let claim = acquire(9379).unwrap();
    let same = acquire(9379).unwrap_err();
    assert_eq!(same.as_asked().unwrap().process.pid, std::process::id());
    let other = acquire(9380).unwrap_err();
    assert!(other.as_asked().is_none());
    assert_eq!(other.kind(), Kind::Conflict);
    assert!(other.to_string().contains("port 9379"), "{other}");
    drop(claim);
    assert!(!home.layout.pid_file().exists());
    acquire(9380).unwrap();
}

#[test]
fn a_taken_port_is_explained_with_its_holder() {
    let holder = identity(std::process::id());
    let error = ClaimError::PortTaken { port: 9379, holder };
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(
        error.to_string().contains(&format!("pid {}", std::process::id())),
        "{error}"
    );
}

#[test]
fn a_server_waits_for_one_that_has_removed_its_record() {
    let home = Home::new("");
    let log = Log::start(home.layout.log_file()).unwrap();
    let claim = || Claim::acquire(&home.layout, &identity_of(9379), "gem-setup".as_ref(), &log);
    let old = claim().unwrap();
    old.publish(EngineState::Stopping, None);
    std::thread::scope(|scope| {
        let new = scope.spawn(claim);
        // Longer than a holder of the lock may be silent.
        std::thread::sleep(Duration::from_millis(2_500));
        fs::remove_file(home.layout.server_file()).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        drop(old);
        new.join().unwrap().unwrap();
    });
}
