//! The owner of the home: a server is known by its lock, and only the owner removes its files.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use gem_platform::process::{Identity, identity, is_alive, kill};
use serde_json::{Value, json};

use super::harness::{Home, assert_says, finish, wait_until};

const STREAM: &str = "/v1beta/models/my-model:streamGenerateContent?alt=sse";

/// A home with the built-in runtime.
fn builtin() -> Home {
    let home = Home::new();
    home.install(&["--runtime", "builtin", "--no-start", "--no-settings"])
        .ok();
    home
}

fn status(home: &Home) -> Value {
    home.gem(&["status", "--json"]).run().json()
}

fn server(home: &Home) -> Identity {
    let pid = status(home)["pid"].as_u64().unwrap();
    identity(u32::try_from(pid).unwrap()).unwrap()
}

fn record(home: &Home) -> Value {
    serde_json::from_str(&fs::read_to_string(home.layout().server_file()).unwrap()).unwrap()
}

/// An upstream that begins one reply and stops until this is dropped.
struct Held {
    url: String,
    _end: Sender<()>,
}

impl Held {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (_end, ended) = channel::<()>();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            let _ = write!(stream, "{head}c\r\ndata: {{}}\r\n\r\n\r\n");
            let _ = ended.recv();
            let _ = stream.write_all(b"0\r\n\r\n");
        });
        Self { url, _end }
    }
}

/// Requests a streamed reply and reads only its beginning.
fn hold_reply(home: &Home) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", home.port)).unwrap();
    let body = json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}).to_string();
    let length = body.len();
    write!(
        stream,
        "POST {STREAM} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().contains("200"));
    assert!(lines.any(|line| line.starts_with("data: ")));
    stream
}

#[test]
fn a_start_during_a_stop_waits_for_the_old_server() {
    let home = builtin();
    let upstream = Held::start();
    home.gem(&["start", "--upstream", &upstream.url]).ok();
    let old = server(&home);
    let reply = hold_reply(&home);

    let stop = home.gem(&["stop"]).spawn();
    thread::sleep(Duration::from_millis(700));
    let seen = status(&home);
    assert_eq!(
        (&seen["running"], &seen["ready"]),
        (&json!(true), &json!(false)),
        "{seen}"
    );
    assert_says(seen["note"].as_str().unwrap(), &["stopping"]);
    let start = home.gem(&["start", "--upstream", &upstream.url]).spawn();
    let second = home.gem(&["start", "--upstream", &upstream.url]).spawn();
    let stop = finish(stop);
    assert_eq!(stop.status, 0, "{stop:#?}");
    for start in [start, second].map(finish) {
        assert_eq!(start.status, 0, "{start:#?}");
    }

    let new = server(&home);
    assert!(!is_alive(&old) && is_alive(&new));
    let seen = status(&home);
    assert_eq!(
        (&seen["running"], &seen["ready"]),
        (&json!(true), &json!(true)),
        "{seen}"
    );
    assert_says(
        &home.gem(&["start", "--upstream", &upstream.url]).ok().stdout,
        &["already", &new.pid.to_string()],
    );
    drop((reply, upstream));
    home.gem(&["stop"]).ok();
    assert!(!is_alive(&new));
    assert!(!home.layout().server_file().exists() && !home.layout().pid_file().exists());
}

#[test]
fn a_server_that_gemini_cli_starts_during_a_stop_waits_too() {
    let home = builtin();
    let upstream = Held::start();
    home.gem(&["start", "--upstream", &upstream.url]).ok();
    let old = server(&home);
    let _reply = hold_reply(&home);
    let stop = home.gem(&["stop"]).spawn();
    wait_until("the server is asked to end", || status(&home)["note"].is_string());
    let port = format!("--port={}", home.port);
    let mut auto_start = home.gem(&["serve", &port, "--verbose"]).spawn();
    assert_eq!(finish(stop).status, 0);
    wait_until("the new server is ready", || status(&home)["ready"] == true);
    assert_ne!(server(&home).pid, old.pid);
    home.gem(&["stop"]).ok();
    assert!(auto_start.wait().unwrap().success());
}

#[test]
fn a_server_killed_while_it_ends_leaves_nothing_in_the_way() {
    let home = builtin();
    let upstream = Held::start();
    home.gem(&["start", "--upstream", &upstream.url]).ok();
    let old = server(&home);
    let _reply = hold_reply(&home);
    let stop = home.gem(&["stop"]).spawn();
    wait_until("the server is asked to end", || status(&home)["note"].is_string());
    // The signal that `gemini gemma stop` sends after a second (docs/facts.md section 3).
    kill(&old).unwrap();
    assert_eq!(finish(stop).status, 0);
    assert_eq!(status(&home)["running"], false);
    home.gem(&["start"]).ok();
    assert_ne!(server(&home).pid, old.pid);
}

#[test]
fn an_installation_during_an_uninstallation_is_complete() {
    for uninstall in [["uninstall"].as_slice(), &["uninstall", "--purge"]] {
        let home = builtin();
        fs::remove_file(home.catalog()).unwrap();
        let upstream = Held::start();
        home.gem(&["start", "--upstream", &upstream.url]).ok();
        let _reply = hold_reply(&home);
        let uninstall = home.gem(uninstall).spawn();
        wait_until("the server is asked to end", || status(&home)["note"].is_string());
        // It uses the recorded catalog, which is deleted while it waits.
        let install = home.gem(&["install", "--no-start"]).spawn();
        thread::sleep(Duration::from_millis(700));
        drop(upstream);
        let (uninstall, install) = (finish(uninstall), finish(install));
        assert_eq!(
            (uninstall.status, install.status),
            (0, 0),
            "{uninstall:#?} {install:#?}"
        );
        home.gem(&["list"]).ok();
        assert_eq!(status(&home)["port"], home.port);
        home.gem(&["install", "--no-start"]).ok();
    }
}

#[test]
fn two_starts_at_once_are_one_server() {
    let home = builtin();
    let starts = [home.gem(&["start"]).spawn(), home.gem(&["start"]).spawn()];
    for start in starts.map(finish) {
        assert_eq!(start.status, 0, "{start:#?}");
    }
    assert_eq!(status(&home)["ready"], true);
}

#[test]
fn a_restart_during_a_start_ends_with_one_server() {
    let home = builtin();
    let start = home.gem(&["start"]).spawn();
    let restart = home.gem(&["restart"]).spawn();
    let (start, restart) = (finish(start), finish(restart));
    assert_eq!(restart.status, 0, "{restart:#?}");
    // The start may have seen its server being stopped.
    assert!([0, 7].contains(&start.status), "{start:#?}");
    let seen = status(&home);
    assert_eq!((&seen["running"], &seen["ready"]), (&json!(true), &json!(true)));
}

#[test]
fn only_the_owner_can_read_the_server_file() {
    let home = builtin();
    home.write(&home.layout().server_file(), "{}");
    home.gem(&["start"]).ok();
    assert!(record(&home)["instance"]["token"].is_string());
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let mode = fs::metadata(home.layout().server_file()).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    // The public status does not contain the token.
    let status = home.gem(&["status", "--json"]).run().stdout;
    assert!(!status.contains(record(&home)["instance"]["token"].as_str().unwrap()));
}

#[test]
fn a_record_from_before_a_reboot_is_ignored() {
    let home = builtin();
    home.gem(&["start"]).ok();
    let server = server(&home);
    let mut stale = record(&home);
    kill(&server).unwrap();
    wait_until("the server is gone", || !is_alive(&server));
    // After a reboot, the same id and start time can belong to another program.
    let test = identity(std::process::id()).unwrap();
    let process = json!({"pid": test.pid, "start_time": test.start_time, "command": test.command});
    stale["pidSpace"] = json!("another boot");
    stale["process"] = process.clone();
    stale["child"] = json!({"process": process, "port": 1, "state": "ready", "restarts": 0, "last_exit": null});
    home.write(&home.layout().server_file(), &stale.to_string());
    assert_eq!(status(&home)["running"], false);
    home.gem(&["stop"]).ok();
    home.write(&home.layout().server_file(), &stale.to_string());
    home.gem(&["start"]).ok();
    assert_eq!(status(&home)["ready"], true);
}

/// A server of which only the record is visible, as from another machine or process namespace.
fn out_of_sight(home: &Home) -> Value {
    let mut record = record(home);
    record["pidSpace"] = json!("another machine");
    home.write(&home.layout().server_file(), &record.to_string());
    record
}

#[test]
fn a_server_out_of_sight_is_asked_over_its_port() {
    let home = builtin();
    home.gem(&["start"]).ok();
    let server = server(&home);
    out_of_sight(&home);
    let seen = status(&home);
    assert_eq!((&seen["running"], &seen["ready"]), (&json!(true), &json!(true)));
    assert_says(seen["note"].as_str().unwrap(), &["another process namespace"]);
    assert_says(&home.gem(&["start"]).ok().stdout, &["already"]);
    home.gem(&["stop"]).ok();
    wait_until("the server is gone", || !is_alive(&server));
    assert_eq!(status(&home)["running"], false);
    assert!(!home.layout().server_file().exists() && !home.layout().pid_file().exists());
}

#[test]
fn a_server_out_of_reach_keeps_its_files() {
    let home = builtin();
    home.gem(&["start"]).ok();
    let server = server(&home);
    let mut hidden = out_of_sight(&home);
    let original = hidden["instance"].clone();
    // Another server listens on that port.
    hidden["instance"] = json!({"id": "another", "token": "another"});
    home.write(&home.layout().server_file(), &hidden.to_string());
    let seen = status(&home);
    assert_eq!((&seen["running"], &seen["ready"]), (&json!(true), &json!(false)));
    for args in [
        ["stop"].as_slice(),
        &["uninstall"],
        &["uninstall", "--purge"],
        &["restart"],
    ] {
        let run = home.gem(args).ends(9);
        assert_says(&run.stderr, &["another machine", "where the server was started"]);
    }
    assert!(is_alive(&server));
    for file in [
        home.layout().state_file(),
        home.layout().pid_file(),
        home.layout().server_file(),
    ] {
        assert!(file.exists(), "{}", file.display());
    }
    hidden["instance"] = original;
    home.write(&home.layout().server_file(), &hidden.to_string());
    home.gem(&["uninstall"]).ok();
    wait_until("the server is gone", || !is_alive(&server));
}

#[test]
fn only_the_token_ends_a_server_over_its_port() {
    let home = builtin();
    home.gem(&["start"]).ok();
    let instance = record(&home)["instance"].clone();
    let ask = |authorization: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", home.port)).unwrap();
        let head = "POST /shutdown HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0";
        write!(stream, "{head}\r\nAuthorization: {authorization}\r\n\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    };
    for wrong in ["", "Bearer x", instance["id"].as_str().unwrap()] {
        assert!(ask(wrong).starts_with("HTTP/1.1 403"), "{wrong}");
    }
    assert_eq!(status(&home)["ready"], true);
    let token = instance["token"].as_str().unwrap();
    assert!(ask(&format!("Bearer {token}")).starts_with("HTTP/1.1 202"));
    wait_until("the server has ended", || status(&home)["running"] == false);
}

#[cfg(unix)]
#[test]
fn a_server_whose_lock_file_was_deleted_ends() {
    let home = builtin();
    home.gem(&["start"]).ok();
    let old = server(&home);
    fs::remove_dir_all(home.layout().gemini()).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while is_alive(&old) {
        assert!(
            std::time::Instant::now() < deadline,
            "it holds its port and no command finds it"
        );
        thread::sleep(Duration::from_millis(20));
    }
    home.install(&["--runtime", "builtin", "--no-settings"]).ok();
    assert_eq!(status(&home)["ready"], true);
}

/// A program that is not a server.
#[cfg(unix)]
struct Stranger(std::process::Child);

#[cfg(unix)]
impl Stranger {
    fn start() -> Self {
        Self(std::process::Command::new("sleep").arg("300").spawn().unwrap())
    }

    fn identity(&self) -> Identity {
        identity(self.0.id()).unwrap()
    }

    /// Whether it runs: a killed process stays visible until its status is read.
    fn runs(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

#[cfg(unix)]
impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(unix)]
#[test]
fn a_start_time_in_the_pid_file_proves_nothing() {
    let home = builtin();
    let mut stranger = Stranger::start();
    let process = stranger.identity();
    let file = json!({
        "pid": process.pid, "port": home.port, "binaryPath": "/x/gem-setup", "startTime": process.start_time
    });
    for args in [["stop"].as_slice(), &["restart"], &["stop"], &["uninstall", "--purge"]] {
        home.write(&home.layout().pid_file(), &file.to_string());
        home.gem(args).ok();
        assert!(stranger.runs(), "{args:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_pid_file_that_names_a_stranger_blocks_nothing() {
    let home = builtin();
    let mut stranger = Stranger::start();
    let pid = stranger.0.id();
    let server = json!({"pid": pid, "port": home.port, "binaryPath": "/usr/bin/lit"});
    for (file, is_kept) in [(&json!(pid), true), (&json!({"pid": pid}), true), (&server, false)] {
        home.write(&home.layout().pid_file(), &file.to_string());
        assert_eq!(status(&home)["running"], false);
        assert_says(&home.gem(&["stop"]).ok().stdout, &["no server is running"]);
        assert_eq!(home.layout().pid_file().exists(), is_kept, "{file}");
    }
    home.write(&home.layout().pid_file(), &server.to_string());
    home.gem(&["uninstall", "--purge"]).ok();
    assert!(!home.layout().own().exists());
    assert!(stranger.runs());
}

#[cfg(target_os = "linux")]
mod namespaces {
    use super::*;
    use crate::harness::{Gem, Run};

    /// `gem` as the second process of another process namespace; `None` if this user may not create one.
    fn inside(gem: Gem) -> Option<Run> {
        use std::process::Command;
        let unshare = ["unshare", "--pid", "--fork", "--mount-proc"];
        let tried = Command::new(unshare[0]).args(&unshare[1..]).arg("true").output();
        if !tried.is_ok_and(|output| output.status.success()) {
            eprintln!("not tested: this user may not make process namespaces");
            return None;
        }
        Some(gem.under(&unshare).run())
    }

    #[test]
    fn a_server_is_seen_and_stopped_from_another_process_namespace() {
        let home = builtin();
        home.gem(&["start"]).ok();
        let server = server(&home);
        let Some(seen) = inside(home.gem(&["status", "--json"])) else {
            return;
        };
        let seen = seen.json();
        assert_eq!((&seen["running"], &seen["ready"]), (&json!(true), &json!(true)));
        assert_says(seen["note"].as_str().unwrap(), &["another process namespace"]);
        let start = inside(home.gem(&["start"])).unwrap();
        assert_eq!(start.status, 0, "{start:#?}");
        assert_says(&start.stdout, &["already"]);
        assert!(is_alive(&server));

        let uninstall = inside(home.gem(&["uninstall"])).unwrap();
        assert_eq!(uninstall.status, 0, "{uninstall:#?}");
        wait_until("the server is gone", || !is_alive(&server));
        assert!(!home.layout().state_file().exists());
    }

    #[test]
    fn a_server_in_another_time_namespace_is_the_same_and_as_old() {
        let home = builtin();
        home.gem(&["start"]).ok();
        let shifted = ["unshare", "--time", "--fork", "--boottime", "100000000"];
        let run = home.gem(&["status", "--json"]).under(&shifted).run();
        if run.stderr.starts_with("unshare:") {
            return;
        }
        let seen = run.json();
        assert_eq!(
            (&seen["ready"], &seen["note"]),
            (&json!(true), &json!(null)),
            "{run:#?}"
        );
        assert!(seen["uptime_s"].as_u64().unwrap() < 100_000, "{seen}");
        home.gem(&["stop"]).under(&shifted).ok();
        assert_eq!(status(&home)["running"], false);
    }

    #[test]
    fn a_loopback_interface_that_is_down_is_named() {
        let home = builtin();
        home.gem(&["install"]).args(["--no-start", "--no-settings"]).run();
        for args in [
            ["start"].as_slice(),
            &["serve"],
            &["restart"],
            &["status"],
            &["doctor"],
            &["smoke"],
            &["install"],
        ] {
            let run = home.gem(args).under(&["unshare", "--net"]).run();
            if run.stderr.starts_with("unshare:") {
                return;
            }
            let said = format!("{}{}", run.stdout, run.stderr);
            assert_says(
                &said,
                &["the machine's loopback interface is down", "`ip link set lo up`"],
            );
        }
    }

    #[test]
    fn a_server_in_another_namespace_is_seen_from_outside() {
        let home = builtin();
        // The server ends with the namespace's first process, which waits for the end of its input.
        let script = r#""$0" "$@" && read -r line"#;
        let gem = home.gem(&["start"]).into_command();
        let mut command = std::process::Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "sh", "-c", script]);
        command.arg(gem.get_program()).args(gem.get_args());
        for (name, value) in gem.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(std::process::Stdio::piped());
        if inside(home.gem(&["version"])).is_none() {
            return;
        }
        let mut namespace = command.spawn().unwrap();
        wait_until("the server is ready", || status(&home)["ready"] == true);
        assert_says(status(&home)["note"].as_str().unwrap(), &["another process namespace"]);
        home.gem(&["stop"]).ok();
        assert_eq!(status(&home)["running"], false);
        drop(namespace.stdin.take());
        namespace.wait().unwrap();
    }
}
