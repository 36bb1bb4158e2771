//! `start`, `stop`, `restart`, `status`, `logs`, and the pid file that is shared with Gemini CLI.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use gem_platform::process::{Owner, identity, is_alive, kill};
#[cfg(unix)]
use gem_setup::error::{Explain, Kind};
use gem_setup::runtime::local::{self, Peer};
use serde_json::{Value, json};

use super::harness::{Bare, Home, MODEL, assert_says, wait_until};

fn status(home: &Home) -> Value {
    home.gem(&["status", "--json"]).run().json()
}

#[test]
fn the_server_starts_reports_its_status_and_stops() {
    let home = Home::installed();
    let started = home.gem(&["start", "--json"]).ok().json();
    assert_eq!((&started["running"], &started["ready"]), (&json!(true), &json!(true)));

    let seen = status(&home);
    assert_eq!(seen["pid"], started["pid"]);
    assert_eq!(seen["port"], home.port);
    assert_eq!((&seen["runtime"], &seen["model"]), (&json!("lit"), &json!(MODEL)));
    assert_eq!(
        (&seen["child"]["state"], &seen["child"]["restarts"]),
        (&json!("ready"), &json!(0))
    );
    assert!(
        seen["child"]["pid"].is_u64() && seen["child"]["port"].is_u64() && seen["uptime_s"].is_u64(),
        "{seen}"
    );
    assert_says(
        &home.gem(&["status"]).ok().stdout,
        &["running and ready", &seen["pid"].to_string()],
    );

    let processes = home.processes();
    #[cfg(target_os = "linux")]
    for process in &processes {
        let directory = fs::read_link(format!("/proc/{}/cwd", process.pid)).unwrap();
        assert_ne!(directory, fs::canonicalize(home.work()).unwrap(), "{process:?}");
    }
    assert_says(
        &home.gem(&["stop"]).ok().stdout,
        &["stopped the server", &seen["pid"].to_string()],
    );
    assert!(!processes.iter().any(is_alive));
    assert!(TcpStream::connect(("127.0.0.1", home.port)).is_err());
    assert!(!home.layout().pid_file().exists());
    assert_eq!(
        status(&home),
        json!({"running": false, "ready": false, "pid": null, "port": home.port, "runtime": "lit", "model": MODEL,
               "child": null, "uptime_s": null})
    );
    assert_says(
        &home.gem(&["status"]).ends(7).stdout,
        &["not running", "gem-setup start"],
    );
}

#[test]
fn status_fails_until_the_server_is_ready() {
    let home = Home::installed();
    home.gem(&["status", "--wait", "0.2"]).ends(7);
    let mut waiting = home.gem(&["status", "--json", "--wait", "60"]).spawn();
    home.gem(&["start"]).ok();
    assert!(waiting.wait().unwrap().success());
    home.gem(&["status"]).ok();
    home.gem(&["status", "--wait", "soon"]).ends(2);
}

#[test]
fn stop_waits_for_the_local_models_answer() {
    let mut home = Home::installed();
    home.set("STAND_IN_SERVE", "delay=1000");
    home.gem(&["start"]).ok();
    let path = format!("/v1beta/models/{MODEL}:generateContent");
    let body = json!({"contents": [{"role": "user", "parts": [{"text": "the last request"}]}]}).to_string();
    let length = body.len();
    std::thread::scope(|threads| {
        let client = threads.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(local::post(
                Peer::new(home.port, Owner::User),
                &path,
                Some(body.into()),
                Duration::from_secs(60),
            ))
        });
        let arrived = || home.trace().iter().any(|event| event["bytes"] == length);
        wait_until("the request is at the engine", arrived);
        home.gem(&["stop"]).ok();
        assert_eq!(client.join().unwrap().unwrap().status, 200);
    });
}

#[test]
fn starting_or_stopping_twice_is_fine() {
    let home = Home::serving();
    let pid = status(&home)["pid"].clone();
    assert_says(
        &home.gem(&["start"]).ok().stdout,
        &["already running", &pid.to_string()],
    );
    assert_eq!(status(&home)["pid"], pid);
    home.gem(&["stop"]).ok();
    assert_says(&home.gem(&["stop"]).ok().stdout, &["no server is running"]);
    assert_eq!(
        home.gem(&["stop", "--json"]).ok().json(),
        json!({"stopped": false, "pid": null})
    );
}

#[test]
fn a_server_detached_by_configuration_detaches_once() {
    let mut home = Home::installed();
    let detach = "detach = true\n";
    home.write(&home.layout().config_file(), detach);
    home.set("GEM_SETUP_DETACH", "1");
    for args in [["serve"].as_slice(), &["start"], &["serve", "--detach"]] {
        home.gem(args).ok();
        assert_eq!(status(&home)["ready"], true, "{args:?}");
        home.gem(&["stop"]).ok();
    }
    assert_eq!(home.install(&[]).ok().step("server"), "changed");
    assert_eq!(status(&home)["ready"], true);
    assert_eq!(home.invocations("serve"), 4, "one server each time");
}

#[test]
fn a_detached_server_keeps_configuration_and_verbosity() {
    let home = Home::installed();
    fs::write(home.beside("other.toml"), "max_retry_wait = 7\n").unwrap();
    let given = "../other.toml";
    for args in [["start"].as_slice(), &["serve", "--detach"]] {
        home.gem(&["-vvv", "--config", given]).args(args).ok();
        let line = identity(u32::try_from(status(&home)["pid"].as_u64().unwrap()).unwrap())
            .unwrap()
            .command;
        let verbose = line.iter().filter(|word| *word == "--verbose").count();
        assert_eq!(verbose, 3, "{line:?}");
        let config = line.iter().find(|word| word.starts_with("--config=")).unwrap();
        assert!(config.ends_with("other.toml"), "{line:?}");
        home.gem(&["stop"]).ok();
    }
    // The default file is not read, so its content does not matter.
    home.write(&home.layout().config_file(), "no such option\n");
    home.gem(&["--config", given, "start"]).ok();
    home.gem(&["--config", given, "stop"]).ok();
}

#[test]
fn a_start_with_other_options_is_a_conflict() {
    let home = Home::serving();
    let before = status(&home)["pid"].clone();
    let other = [
        "--on-classifier-failure",
        "error",
        "--upstream",
        "http://user:secret@127.0.0.1:9/",
    ];
    for command in ["start", "serve"] {
        let run = home.gem(&[command]).args(other).ends(9);
        assert_says(
            &run.stderr,
            &["other options", &before.to_string(), "gem-setup restart"],
        );
    }
    home.gem(&["start"]).args(["--model", "gemma3-other"]).ends(9);
    assert_eq!(status(&home)["pid"], before);

    home.gem(&["restart"]).args(other).ok();
    let after = status(&home)["pid"].clone();
    assert_ne!(after, before);
    assert_says(&home.gem(&["start"]).args(other).ok().stdout, &["already running"]);
    home.gem(&["start"]).ends(9);
    let file = fs::read_to_string(home.layout().server_file()).unwrap();
    assert_eq!(
        home.doctor().status,
        0,
        "how the gateway was started is nobody else's business"
    );

    // As recorded by a version that did not record them.
    let mut record: Value = serde_json::from_str(&file).unwrap();
    record["server"].as_object_mut().unwrap().remove("options").unwrap();
    fs::write(home.layout().server_file(), record.to_string()).unwrap();
    assert_says(&home.gem(&["start"]).ok().stdout, &["already running"]);
    assert_eq!(status(&home)["pid"], after);
}

#[cfg(unix)]
#[test]
fn a_server_that_was_stopped_is_no_interrupted_command() {
    use std::os::unix::process::ExitStatusExt;

    for (code, kind, hint) in [
        (143, Kind::Runtime, "stopped it"),
        (9, Kind::Conflict, "correct the fault"),
    ] {
        let error = gem_setup::supervise::StartError::Ended {
            status: std::process::ExitStatus::from_raw(code << 8),
            tail: Vec::new(),
        };
        assert_eq!(error.kind(), kind);
        assert!(error.hint().unwrap().contains(hint), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn a_suspended_server_is_not_ready() {
    let home = Home::serving();
    let pid = i32::try_from(status(&home)["pid"].as_i64().unwrap()).unwrap();
    let server = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(server, rustix::process::Signal::STOP).unwrap();

    let seen = home.gem(&["status", "--json"]).ends(7).json();
    assert_eq!((&seen["running"], &seen["ready"]), (&true.into(), &false.into()));
    assert_says(
        &home.gem(&["status", "--wait=1"]).ends(7).stdout,
        &["not ready", "restart"],
    );
    for command in [["start"].as_slice(), &["smoke"]] {
        let run = home.gem(command).ends(7);
        assert_says(&run.stderr, &["does not answer", "gem-setup restart"]);
    }
    let checked = home.gem(&["doctor", "--smoke", "--json"]).run();
    assert_eq!(checked.check("server.smoke")["status"], "fail");

    home.gem(&["restart"]).ok();
    assert_eq!(status(&home)["ready"], true);
}

#[test]
fn a_restart_replaces_server_and_engine() {
    let home = Home::serving();
    let before = home.processes();
    home.gem(&["restart"]).ok();
    let after = home.processes();
    assert_eq!(after.len(), 2);
    assert!(!before.iter().any(is_alive));
    assert!(after.iter().all(is_alive));
    assert_eq!(status(&home)["ready"], true);
}

#[test]
fn a_restart_that_would_fail_keeps_the_server() {
    let home = Home::serving();
    let before = home.processes();
    for (args, word) in [
        (["--listen", "0.0.0.0"], "0.0.0.0"),
        (["--models", "no-such-file"], "no-such-file"),
        (["--ca-cert", "no-such-file"], "no-such-file"),
        (["--upstream", "ftp://x"], "ftp://x"),
    ] {
        for command in [["restart"].as_slice(), &["start"], &["serve", "--detach"]] {
            let run = home.gem(command).args(args).ends(2);
            assert_says(&run.stderr, &[word]);
        }
    }
    fs::rename(home.lit(), home.beside("lit")).unwrap();
    assert_says(&home.gem(&["restart"]).ends(7).stderr, &["missing"]);
    assert_eq!(home.processes(), before);
    assert!(before.iter().all(is_alive));
}

#[test]
fn a_dead_engine_is_replaced_under_the_same_server() {
    let home = Home::serving();
    let before = status(&home);
    kill(&home.processes()[0]).unwrap();
    wait_until("there is another child", || {
        let now = status(&home);
        now["ready"] == true && now["child"]["restarts"] == 1
    });
    let after = status(&home);
    assert_eq!(after["pid"], before["pid"]);
    assert_ne!(after["child"]["pid"], before["child"]["pid"]);
}

#[test]
fn a_server_with_a_replaced_runtime_is_restarted() {
    let home = Home::serving();
    let before = status(&home)["pid"].clone();
    // Times are recorded to the second.
    wait_until("the server has run for a while", || {
        status(&home)["uptime_s"].as_u64().unwrap() >= 3
    });
    let copy = home.beside("copy of the runtime");
    fs::copy(home.lit(), &copy).unwrap();
    fs::File::open(&copy).unwrap().set_modified(SystemTime::now()).unwrap();
    fs::rename(copy, home.lit()).unwrap();
    let check = home.doctor().check("server.process");
    assert_says(check["detail"].as_str().unwrap(), &["replaced", &before.to_string()]);
    assert_eq!(home.install(&[]).ok().step("server"), "changed");
    assert_ne!(status(&home)["pid"], before);
}

#[test]
fn the_pid_file_is_one_that_gemini_cli_recognises() {
    let home = Home::serving();
    let file: Value = serde_json::from_str(&fs::read_to_string(home.layout().pid_file()).unwrap()).unwrap();
    assert_eq!(file["port"], home.port);
    assert_eq!(file["binaryPath"], env!("CARGO_BIN_EXE_gem-setup"));
    let pid = u32::try_from(file["pid"].as_u64().unwrap()).unwrap();
    let command = identity(pid).unwrap().command.join(" ");
    // The properties that `gemini gemma stop` requires (docs/facts.md section 3).
    assert_says(
        &command,
        &[
            "serve",
            &format!("--port={}", home.port),
            env!("CARGO_BIN_EXE_gem-setup"),
        ],
    );
}

#[test]
fn a_stale_pid_file_does_not_block_start_or_stop() {
    let home = Home::installed();
    let mut gone = home.gem(&["version"]).spawn();
    gone.wait().unwrap();
    let stale = json!({"pid": gone.id(), "binaryPath": "/opt/lit", "port": home.port}).to_string();
    for text in [stale.as_str(), &gone.id().to_string(), "nonsense"] {
        home.write(&home.layout().pid_file(), text);
        assert_eq!(status(&home)["running"], false, "{text}");
        home.gem(&["stop"]).ok();
        assert!(!home.layout().pid_file().exists(), "{text}");
        home.write(&home.layout().pid_file(), text);
        home.gem(&["start"]).ok();
        assert_eq!(status(&home)["ready"], true, "{text}");
        home.gem(&["stop"]).ok();
    }
}

#[test]
fn a_server_started_by_gemini_cli_is_found_and_stopped() {
    let home = Home::installed();
    let mut bare = Bare::start(&home, &[]);
    let seen = status(&home);
    assert_eq!(
        (&seen["running"], &seen["ready"], &seen["pid"]),
        (&json!(true), &json!(true), &json!(bare.0.id()))
    );
    let check = home.doctor().check("server.process");
    assert_eq!(check["status"], "warn");
    assert_says(
        check["detail"].as_str().unwrap(),
        &["Gemini CLI", &bare.0.id().to_string()],
    );

    home.gem(&["start"]).ends(9);
    // After it is stopped, it stays a child of this process until its status is read.
    let stop = home.gem(&["stop"]).spawn();
    bare.0.wait().unwrap();
    let run = super::harness::finish(stop);
    assert_eq!(run.status, 0, "{run:#?}");
    assert!(!home.layout().pid_file().exists());
}

#[test]
fn a_taken_port_is_a_conflict_with_and_without_gateway() {
    let home = Home::installed();
    let _other = TcpListener::bind(("127.0.0.1", home.port)).unwrap();
    for args in [
        ["start"].as_slice(),
        &["start", "--direct"],
        &["serve"],
        &["serve", "--direct"],
    ] {
        let run = home.gem(args).ends(9);
        let advice = format!("gem-setup install --port {}", home.port + 1);
        assert_says(&run.stderr, &[&home.port.to_string(), &advice]);
        // A process that another test is starting holds this process's files until its exec.
        let pid = std::process::id().to_string();
        wait_until("the holder of the port is named", || {
            home.gem(args).ends(9).stderr.contains(&pid)
        });
        assert_eq!(status(&home)["running"], false, "{args:?}");
    }
}

#[test]
fn the_guard_ignores_a_broken_configuration() {
    let home = Home::new();
    home.write(&home.layout().config_file(), "no such option\n");
    home.gem(&["install", "--dry-run"]).ends(2);
    let mut command = Command::new(env!("CARGO_BIN_EXE_gem-setup"));
    let status = command
        .arg("__guard")
        .env("HOME", home.path())
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn serve_needs_an_installed_runtime() {
    let home = Home::new();
    let port = home.port.to_string();
    let run = home.gem(&["serve", "--port", &port]).ends(7);
    assert_says(&run.stderr, &["not installed", "gem-setup install"]);
    let home = Home::installed();
    fs::remove_file(home.lit()).unwrap();
    for command in ["serve", "start", "restart"] {
        let run = home.gem(&[command]).ends(7);
        assert_says(
            &run.stderr,
            &["`lit` is not installed", "is missing", "gem-setup install"],
        );
    }
}

#[test]
fn the_log_is_printed_from_its_end() {
    let home = Home::serving();
    let whole = home.gem(&["logs", "-n", "1000"]).ok().stdout;
    assert_says(&whole, &["stand-in: listening on"]);
    let lines: Vec<&str> = whole.lines().collect();
    let last = home.gem(&["logs", "-n", "1"]).ok().stdout;
    assert_eq!(last.lines().collect::<Vec<_>>(), [*lines.last().unwrap()]);
    assert_eq!(home.gem(&["logs", "-n", "0"]).ok().stdout, "");
    for line in home.gem(&["logs", "--json"]).ok().events() {
        assert!(line["line"].is_string(), "{line}");
    }
}

#[test]
fn a_missing_log_is_no_error() {
    let home = Home::new();
    let run = home.gem(&["logs"]).ok();
    assert_eq!(run.stdout, "");
    assert_says(&run.stderr, &["litert-server.log"]);
    home.assert_untouched();
}

#[test]
fn a_foreground_server_prints_its_address_and_readiness() {
    use std::io::{BufRead, BufReader};

    let home = Home::installed();
    let mut child = home.gem(&["serve"]).spawn();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let listening = lines.next().unwrap();
    assert_says(&listening, &["listening on", &format!("127.0.0.1:{}", home.port)]);
    assert_says(&lines.next().unwrap(), &["ready", &home.port.to_string()]);
    home.gem(&["stop"]).ok();
    assert!(child.wait().unwrap().success());
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_stops_in_a_read_only_home() {
    let home = Home::serving();
    let processes = home.processes();
    let Some(_mounted) = crate::harness::Mount::frozen(home.path()) else {
        return;
    };
    let doctor = home.doctor();
    assert_eq!(doctor.check("server.process")["status"], "ok", "{doctor:#?}");
    assert_says(&home.gem(&["status"]).ok().stdout, &["running and ready"]);
    let refused = home.gem(&["restart"]).ends(7);
    assert_says(&refused.stderr, &["cannot begin", "Read-only file system"]);
    assert!(processes.iter().all(is_alive));

    assert_says(&home.gem(&["stop"]).ok().stdout, &["stopped the server"]);
    assert!(!processes.iter().any(is_alive));
    assert_says(&home.gem(&["status"]).ends(7).stdout, &["not running"]);
    assert_says(&home.gem(&["stop"]).ok().stdout, &["no server is running"]);
    let doctor = home.doctor();
    assert_says(
        &doctor.check("server.process")["detail"].to_string(),
        &["no server is running"],
    );
}

#[test]
fn a_server_rewrites_its_deleted_record() {
    let home = Home::new();
    home.gem(&["install", "--runtime", "builtin", "--port", &home.port.to_string()])
        .ok();
    let file = home.layout().server_file();
    fs::remove_file(&file).unwrap();
    wait_until("the record is there again", || {
        let status = home.gem(&["status", "--json"]).ok().json();
        assert_eq!(status["runtime"], "builtin", "{status}");
        file.exists()
    });
    home.gem(&["stop"]).ok();
    assert!(!file.exists());
}

#[test]
fn a_stranger_on_the_port_is_named_with_a_way_that_works() {
    let home = Home::installed();
    let _other = TcpListener::bind(("127.0.0.1", home.port)).unwrap();
    let status = home.gem(&["status"]).ends(7);
    let json = home.gem(&["status", "--json"]).ends(7).json();
    let smoke = home.gem(&["smoke"]).ends(9);
    let start = home.gem(&["start"]).ends(9);
    for text in [
        &status.stdout,
        json["note"].as_str().unwrap(),
        &smoke.stderr,
        &start.stderr,
    ] {
        assert_says(
            text,
            &[&home.port.to_string(), "is taken by", "gem-setup install --port"],
        );
    }
    assert!(!status.stdout.contains("gem-setup start"), "{status:#?}");
    assert!(!home.layout().log_file().exists(), "a process was started: {start:#?}");
}

#[test]
fn a_passed_test_is_no_test_of_a_stopped_server() {
    let home = Home::new();
    let install = || {
        home.gem(&[
            "install",
            "--json",
            "--runtime",
            "builtin",
            "--port",
            &home.port.to_string(),
        ])
    };
    install().ok();
    home.gem(&["stop"]).ok();
    let _other = TcpListener::bind(("127.0.0.1", home.port)).unwrap();
    for run in [install().ends(9), install().arg("--dry-run").ends(9)] {
        assert_eq!(run.step("smoke"), "skipped", "{run:#?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_touched_runtime_is_not_a_replaced_one() {
    let home = Home::serving();
    let server = || home.doctor().check("server.process");
    let touch = || {
        let lit = fs::OpenOptions::new().read(true).open(home.lit()).unwrap();
        lit.set_modified(SystemTime::now() + Duration::from_secs(60)).unwrap();
    };
    touch();
    assert_eq!(server()["status"], "ok");

    let copy = home.beside("lit");
    fs::copy(home.lit(), &copy).unwrap();
    fs::rename(&copy, home.lit()).unwrap();
    let check = server();
    assert_eq!(check["status"], "fail");
    assert_says(
        check["detail"].as_str().unwrap(),
        &["the former runtime, which has been replaced"],
    );
}

#[test]
fn a_restart_on_a_taken_port_keeps_the_running_server() {
    let home = Home::new();
    let (own, other) = (home.port.to_string(), TcpListener::bind("127.0.0.1:0").unwrap());
    let taken = other.local_addr().unwrap().port().to_string();
    home.gem(&["install", "--runtime", "builtin", "--port", &own]).ok();
    let before = status(&home)["pid"].clone();
    let refused = home.gem(&["restart", "--port", &taken]).ends(9);
    let reason = format!("port {taken} is taken");
    assert_says(&refused.stderr, &["cannot restart the server", &reason]);
    assert_eq!(status(&home)["pid"], before);
}
