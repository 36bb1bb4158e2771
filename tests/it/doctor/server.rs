//! Faults of the server, its pid file and its port.

use std::fs;
use std::net::TcpListener;

use gem_platform::process::{is_alive, kill};
use serde_json::json;

use super::{faulty, repairs, says};
use crate::harness::{Home, wait_until};

#[test]
fn a_stopped_server_is_named() {
    let home = Home::serving();
    home.gem(&["stop"]).ok();
    says(
        &faulty(&home, &["server.process"]),
        "server.process",
        &["no server is running"],
        "gem-setup start",
    );
    repairs(&home);
}

#[test]
fn a_killed_server_is_named() {
    let home = Home::serving();
    let processes = home.processes();
    for process in &processes {
        kill(process).unwrap();
    }
    wait_until("the server is gone", || !processes.iter().any(is_alive));
    let run = faulty(&home, &["server.process"]);
    says(
        &run,
        "server.process",
        &["no server is running", "litert-server.pid", "stale"],
        "gem-setup start",
    );
    repairs(&home);
}

#[test]
fn a_runtime_that_keeps_failing_is_named() {
    let mut home = Home::new();
    let control = home.beside("control");
    home.set("STAND_IN_CONTROL", control.to_str().unwrap());
    home.install(&[]).ok();
    fs::write(&control, "crash-at-start").unwrap();
    kill(&home.processes()[0]).unwrap();
    wait_until("the runtime is not ready", || {
        home.gem(&["status", "--json"]).run().json()["ready"] == false
    });
    says(
        &faulty(&home, &["server.health"]),
        "server.health",
        &[&home.port.to_string()],
        "gem-setup",
    );
}

#[test]
fn a_stale_pid_file_is_named() {
    let home = Home::serving();
    let mut gone = home.gem(&["version"]).spawn();
    gone.wait().unwrap();
    let text = json!({"pid": gone.id(), "binaryPath": "/opt/lit", "port": home.port}).to_string();
    fs::write(home.layout().pid_file(), text).unwrap();
    let run = faulty(&home, &["server.process"]);
    says(
        &run,
        "server.process",
        &["litert-server.pid", "stale", &gone.id().to_string()],
        "gem-setup restart",
    );
    home.gem(&["restart"]).ok();
    assert_eq!(home.doctor().status, 0);
}

#[test]
fn a_stale_pid_file_without_a_server_is_named() {
    let home = Home::serving();
    home.gem(&["stop"]).ok();
    let mut gone = home.gem(&["version"]).spawn();
    gone.wait().unwrap();
    home.write(&home.layout().pid_file(), &gone.id().to_string());
    let run = faulty(&home, &["server.process"]);
    says(
        &run,
        "server.process",
        &["litert-server.pid", "stale", &gone.id().to_string()],
        "gem-setup start",
    );
    repairs(&home);
}

#[test]
fn a_foreign_process_on_the_port_is_named() {
    let home = Home::serving();
    home.gem(&["stop"]).ok();
    let _other = TcpListener::bind(("127.0.0.1", home.port)).unwrap();
    let run = faulty(&home, &["server.port"]);
    let pid = std::process::id().to_string();
    says(&run, "server.port", &[&home.port.to_string(), &pid], "--port");
    home.gem(&["doctor", "--fix"]).ends(9);
}

#[test]
fn a_foreign_process_in_the_pid_file_is_named_and_left_alone() {
    let home = Home::serving();
    home.gem(&["stop"]).ok();
    let pid = std::process::id();
    home.write(
        &home.layout().pid_file(),
        &json!({"pid": pid, "binaryPath": "/opt/lit", "port": home.port}).to_string(),
    );
    let run = faulty(&home, &["server.process"]);
    says(
        &run,
        "server.process",
        &[&pid.to_string(), "not a server of gem-setup"],
        "gem-setup start",
    );
    // The port is free for the server: the plan can be carried out.
    assert_eq!(home.install(&["--dry-run"]).ok().changed(), ["server", "smoke"]);
    assert_eq!(home.install(&[]).ok().changed(), ["server", "smoke"]);
    assert_eq!(home.doctor().status, 0);
}

#[test]
fn a_missing_pid_file_is_named_and_restored() {
    let home = Home::serving();
    fs::remove_file(home.layout().pid_file()).unwrap();
    let run = faulty(&home, &["server.process"]);
    says(&run, "server.process", &["litert-server.pid"], "gem-setup restart");
    repairs(&home);
}
