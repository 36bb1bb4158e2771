//! Interrupted downloads: received bytes are kept, however the process ends.

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use gem_setup_support::fault::FaultServer;
use gem_setup_support::mirror::sha256_hex;

use super::harness::{Gem, Home, executable};

const LENGTH: usize = 200_000_000;
const KILLS: usize = 10;
/// Bytes a second for one connection: slow enough to hit a chosen point, fast enough for a test.
const RATE: u64 = 30_000_000;

/// The stand-in for the runtime, padded to a runtime's size: bytes after a program's end are not read.
fn large_executable() -> Vec<u8> {
    let mut bytes = executable();
    bytes.reserve(LENGTH);
    let mut number = 0_u64;
    while bytes.len() < LENGTH {
        // No two blocks are equal, so that a misplaced part is noticed.
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&[b'#'; 4088]);
        number += 1;
    }
    bytes.truncate(LENGTH);
    bytes
}

#[cfg(unix)]
#[test]
fn a_signal_fails_the_step_under_way() {
    use rustix::process::{Pid, Signal, kill_process};

    use super::harness::{finish, wait_until};

    for (signal, kind, status) in [
        (Signal::TERM, "terminated", 143),
        (Signal::HUP, "terminated", 143),
        (Signal::INT, "interrupted", 130),
    ] {
        let mut home = Home::new();
        home.set("STAND_IN_PULL", "hang");
        let child = home.install(&["--no-start"]).spawn();
        wait_until("the pull begins", || home.invocations("pull") > 0);
        kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), signal).unwrap();
        let run = finish(child);
        assert_eq!(run.status, status, "{run:#?}");
        let steps = run.steps();
        let told: Vec<(&str, &str)> = steps.iter().map(|(id, state)| (&**id, &**state)).collect();
        let expected = [
            ("platform", "ok"),
            ("space", "ok"),
            ("runtime", "changed"),
            ("companions", "skipped"),
            ("terms", "changed"),
            ("model", "failed"),
            ("settings", "skipped"),
            ("server", "skipped"),
            ("smoke", "skipped"),
        ];
        assert_eq!(told, expected);
        assert_eq!(run.changed(), ["runtime", "terms"]);
        let error = &run.result()["error"];
        assert_eq!((&error["kind"], &error["exit"]), (&kind.into(), &status.into()));
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_start_names_the_server() {
    use rustix::process::{Pid, Signal, kill_process};

    use super::harness::{assert_says, finish, wait_until};

    let mut home = Home::installed();
    home.set("STAND_IN_SERVE", "slow-start=60000");
    let child = home.gem(&["start"]).spawn();
    wait_until("the server is known", || !home.processes().is_empty());
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), Signal::INT).unwrap();
    let run = finish(child);
    assert_eq!(run.status, 130, "{run:#?}");
    assert_says(&run.stderr, &["the server keeps running (pid ", "gem-setup stop"]);
    home.gem(&["stop"]).ok();
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_server_with_130_and_a_service_manager_s_signal_with_0() {
    use rustix::process::{Pid, Signal, kill_process};

    use super::harness::{finish, wait_until};

    let home = Home::new();
    home.gem(&["install", "--runtime", "builtin", "--no-start", "--port"])
        .arg(home.port.to_string())
        .ok();
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 0)] {
        let child = home.gem(&["serve"]).spawn();
        wait_until("the server is ready", || home.gem(&["status"]).run().status == 0);
        kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), signal).unwrap();
        let run = finish(child);
        assert_eq!(run.status, status, "{run:#?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_ends_a_reading_command_quietly() {
    use rustix::process::{Pid, Signal, kill_process};

    use super::harness::{finish, wait_until};

    let home = Home::new();
    home.write(&home.layout().log_file(), "a line\n");
    let child = home.gem(&["logs", "-f"]).spawn();
    wait_until("the signal is handled", || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        let interrupt = 1 << (Signal::INT.as_raw() - 1);
        u64::from_str_radix(caught.trim(), 16).unwrap() & interrupt != 0
    });
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), Signal::INT).unwrap();
    let run = finish(child);
    assert_eq!((run.status, run.stderr.as_str()), (130, ""), "{run:#?}");
}

/// Random numbers, which `GEM_SETUP_TEST_SEED` repeats.
fn chance() -> fastrand::Rng {
    let wanted = std::env::var("GEM_SETUP_TEST_SEED").ok();
    let seed = wanted.map_or_else(|| fastrand::u64(..), |text| text.parse().unwrap());
    println!("to repeat this: GEM_SETUP_TEST_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

fn install_runtime(home: &Home, server: &FaultServer) -> Gem {
    let mirror = server.url();
    let port = home.port.to_string();
    home.gem(&[
        "install",
        "--json",
        "--port",
        &port,
        "--no-model",
        "--no-settings",
        "--no-start",
    ])
    .args(["--mirror", &mirror, "--mirror-only", "--catalog"])
    .arg(home.catalog())
}

/// Starts `gem` and kills it with SIGKILL once `server` has sent this many bytes in all.
#[track_caller]
fn kill_once_served(gem: Gem, server: &FaultServer, bytes: u64) {
    let mut command = gem.into_command();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while server.served() < bytes {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none(), "ended by itself before byte {bytes}: {ended:?}");
        thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(
        !status.success(),
        "it was over before it could be killed at byte {bytes}"
    );
}

#[test]
fn ten_kills_lose_little_of_a_download() {
    let content = large_executable();
    let sha256 = sha256_hex(&content);
    let home = Home::new();
    home.write_catalog(&sha256, None);
    let server = FaultServer::start(content);
    server.limit_rate(RATE);

    let length = LENGTH as u64;
    let mut chance = chance();
    // A run ends only after the whole length was sent: each of these points is well before that.
    let mut points: Vec<u64> = (0..KILLS).map(|_| chance.u64(1..length * 8 / 10)).collect();
    points.sort_unstable();
    for &point in &points {
        kill_once_served(install_runtime(&home, &server), &server, point);
        assert!(!home.lit().exists(), "a part of the file is in its place");
    }
    let run = install_runtime(&home, &server).ok();
    assert_eq!(run.changed(), ["runtime"]);

    let served = server.served();
    assert!(
        (length..length * 11 / 10).contains(&served),
        "{served} bytes were sent for {length}, killed at {points:?}"
    );
    println!("{served} bytes were sent for {length}");
    assert_eq!(sha256_hex(&fs::read(home.lit()).unwrap()), sha256);
    assert_eq!(home.doctor().check("runtime.checksum")["status"], "ok");
    let left = fs::read_dir(home.layout().downloads()).unwrap().count();
    assert_eq!(left, 0, "files are left in the downloads");
}

#[test]
fn a_runtime_whose_installation_was_killed_is_on_record() {
    let mut content = executable();
    content.resize(4_000_000, b'#');
    let home = Home::new();
    home.write_catalog(&sha256_hex(&content), None);
    let server = FaultServer::start(content.clone());
    server.limit_rate(1_000_000);
    kill_once_served(install_runtime(&home, &server), &server, 1_000_000);
    let state = fs::read_to_string(home.layout().state_file()).unwrap();
    assert!(
        state.contains(&format!("\"port\": {}", home.port)),
        "the choices are lost: {state}"
    );
    // As if the kill had come just after the file was in its place.
    fs::create_dir_all(home.lit().parent().unwrap()).unwrap();
    fs::write(home.lit(), content).unwrap();
    install_runtime(&home, &server).ok();
    home.gem(&["uninstall"]).ok();
    assert!(!home.lit().exists());
}

#[test]
fn a_first_download_that_fails_leaves_no_record() {
    let home = Home::new();
    let server = FaultServer::start(b"not what the catalog pins".to_vec());
    install_runtime(&home, &server).ends(6);
    assert!(!home.layout().state_file().exists());
}
