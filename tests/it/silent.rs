//! What is said while something keeps a command waiting: a silent host, a hanging model, another gem-setup, a person.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use gem_platform::process::listener_on;
use gem_setup::lock::Lock;

use super::harness::{Gem, Home, Run, assert_says, finish, on_a_terminal, on_a_terminal_of, wait_until};

fn send(signal: &str, pid: u32) {
    let sent = Command::new("kill").args([signal, &pid.to_string()]).status();
    assert!(sent.unwrap().success());
}

/// The process whose command line contains `words`.
fn running(words: &str) -> Option<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(words)
    })
}

/// Starts `gem`, and returns once it has said `words` on standard error.
fn until_it_says(mut gem: Gem, words: &str) -> Child {
    let mut child = gem.spawn();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = lines.find(|line| line.as_ref().unwrap().contains(words));
    assert!(line.is_some(), "`{words}` was not said");
    // The rest must find a reader.
    thread::spawn(move || lines.for_each(drop));
    child
}

#[test]
fn a_silent_host_is_named() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let home = Home::new();
    let mirror = format!("http://{address}");
    let install = home.gem(&[
        "install",
        "--no-start",
        "--no-model",
        "--mirror",
        &mirror,
        "--mirror-only",
    ]);
    let install = install.arg("--catalog").arg(home.catalog());
    let mut child = until_it_says(install, &format!("waiting for {address}, which sends nothing"));
    send("-INT", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_gem_setup_at_work_is_named_and_so_is_a_suspended_one() {
    let home = Home::new();
    let child = home.install(&[]).env("STAND_IN_PULL", "hang").spawn();
    let lock = home.layout().lock_file();
    wait_until("install works", || Lock::is_held(&lock).unwrap_or(false));
    let pid = child.id();
    let at_work = format!("another gem-setup (pid {pid}, `install`, for ");
    let doctor = || home.gem(&["doctor"]).run();
    let run: Run = doctor();
    assert_says(
        &run.stdout,
        &["warn setup.records: ", &at_work, ") is at work on this home"],
    );
    assert!(!run.stdout.contains("not installed: run"), "{run:#?}");
    let run = home.gem(&["status"]).run();
    assert_says(&run.stdout, &[&at_work, "wait until it is done"]);
    send("-STOP", pid);
    assert_says(
        &doctor().stdout,
        &["is suspended in its work on this home", &format!("kill -CONT {pid}")],
    );
    let run = home.gem(&["uninstall"]).ends(9);
    assert_says(&run.stderr, &["is suspended", &format!("kill -CONT {pid}")]);
    send("-CONT", pid);
    send("-INT", pid);
    finish(child);
    assert!(!doctor().stdout.contains("another gem-setup"));
}

#[test]
fn smoke_says_what_it_waits_for_and_how_long() {
    let mut home = Home::new();
    let control = home.beside("control");
    home.set("STAND_IN_CONTROL", control.to_str().unwrap());
    home.install(&[]).ok();
    home.write(&control, "delay=1000");
    let run = home.gem(&["smoke"]).run();
    assert_says(
        &run.stderr,
        &[
            "waiting for the answer to the joke, at most 120 s",
            "routing probe 1 of 2",
        ],
    );
}

const QUESTION: &str = "Delete these permanently? [y/N] ";

#[test]
fn a_purge_asks_at_a_terminal_with_json_too() {
    let home = Home::installed();
    let purge = || home.gem(&["uninstall", "--purge", "--json"]);
    let run = on_a_terminal(purge(), QUESTION, "n\n");
    assert_eq!(run.status, 1, "{run:#?}");
    assert!(home.lit().exists());
    assert_eq!(on_a_terminal(purge(), QUESTION, "y\n").status, 0);
    assert!(!home.lit().exists());
}

#[test]
fn a_question_is_shown_again_when_the_program_continues() {
    let home = Home::installed();
    let is_over = AtomicBool::new(false);
    thread::scope(|threads| {
        threads.spawn(|| {
            let words = format!("--home {} uninstall", home.path().display());
            while !is_over.load(Ordering::Relaxed) {
                // A shell sends this after Ctrl-Z and `fg`.
                running(&words).into_iter().for_each(|pid| send("-CONT", pid));
                thread::sleep(Duration::from_millis(100));
            }
        });
        let run = on_a_terminal_of(
            None,
            home.gem(&["uninstall", "--purge"]),
            &QUESTION.repeat(2),
            |terminal| {
                is_over.store(true, Ordering::Relaxed);
                terminal.write_all(b"n\n").unwrap();
            },
        );
        assert_eq!(run.status, 1, "{run:#?}");
    });
}

#[test]
fn clients_wait_for_a_restarted_server_while_the_old_one_finishes_its_requests() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let home = Home::new();
    home.install(&["--runtime", "builtin", "--no-start", "--no-settings"])
        .ok();
    let url = format!("http://{}", upstream.local_addr().unwrap());
    home.gem(&["start", "--upstream", &url, "--drain-timeout", "60"]).ok();
    let before = home.gem(&["status", "--json"]).ok().json()["pid"].as_u64();
    let ask = |path: &str| {
        let mut client = TcpStream::connect(("127.0.0.1", home.port)).unwrap();
        write!(
            client,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        client
    };
    let _open = ask("/v1beta/files/1");
    let (held, _) = upstream.accept().unwrap();
    let restart = home.gem(&["restart"]).spawn();
    wait_until("the new server listens", || {
        let listener = listener_on(Ipv4Addr::LOCALHOST.into(), home.port);
        listener.is_some_and(|listener| Some(u64::from(listener.pid)) != before)
    });
    let mut early = ask("/healthz");
    drop(held);
    let mut reply = String::new();
    early.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    assert_eq!(finish(restart).status, 0);
    home.gem(&["stop"]).ok();
}
