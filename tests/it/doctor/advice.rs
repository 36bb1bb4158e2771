//! Runs every command that `doctor` advises: afterwards its check passes. Only advice to be followed by hand remains.

use std::collections::BTreeSet;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use gem_platform::process::{is_alive, kill};
use serde_json::{Value, json};

use crate::harness::{Home, MODEL, Run, free_port, wait_until};

/// A home with the processes that a fault has started.
struct Patient {
    home: Home,
    listeners: Vec<TcpListener>,
    children: Vec<Child>,
}

impl Drop for Patient {
    fn drop(&mut self) {
        for child in &mut self.children {
            // The server that replaced it has ended it already, unless the test fails.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A way to break a home with a complete installation.
struct Fault {
    name: &'static str,
    cause: fn(&mut Patient),
    /// Whether a command alone can repair it.
    is_repairable: bool,
}

const fn repairable(name: &'static str, cause: fn(&mut Patient)) -> Fault {
    Fault {
        name,
        cause,
        is_repairable: true,
    }
}

const fn by_hand(name: &'static str, cause: fn(&mut Patient)) -> Fault {
    Fault {
        name,
        cause,
        is_repairable: false,
    }
}

const FAULTS: &[Fault] = &[
    repairable("runtime missing", |patient| clear(&patient.home.lit())),
    repairable("runtime corrupt", |patient| {
        clear(&patient.home.lit());
        fs::write(patient.home.lit(), "#!/bin/sh\nexit 1\n").unwrap();
    }),
    repairable("runtime not executable", |patient| {
        let bytes = fs::read(patient.home.lit()).unwrap_or_default();
        clear(&patient.home.lit());
        fs::write(patient.home.lit(), bytes).unwrap();
    }),
    by_hand("directory as runtime", |patient| {
        clear(&patient.home.lit());
        fs::create_dir_all(patient.home.lit()).unwrap();
    }),
    repairable("model missing", |patient| {
        clear(&patient.home.layout().models().join(MODEL))
    }),
    repairable("terms missing", |patient| clear(&patient.home.layout().terms_file())),
    repairable("terms corrupt", |patient| {
        patient.home.write(&patient.home.layout().terms_file(), "{ accepted");
    }),
    by_hand("state corrupt", |patient| {
        patient.home.write(&patient.home.layout().state_file(), "no state");
    }),
    repairable("router off", |patient| {
        edit_settings(patient, |text| text.replace("\"enabled\": true", "\"enabled\": false"));
    }),
    repairable("settings name another port", |patient| {
        edit_settings(patient, |text| text.replace("http://localhost:", "http://localhost:1"));
    }),
    repairable("settings gone", |patient| clear(&patient.home.settings())),
    repairable("trailing comma", |patient| {
        edit_settings(patient, |text| {
            format!("{},\n}}\n", text.trim_end().trim_end_matches('}').trim_end())
        });
    }),
    repairable("byte order mark", |patient| {
        edit_settings(patient, |text| format!("\u{feff}{text}"))
    }),
    by_hand("settings do not parse", |patient| {
        edit_settings(patient, |text| format!("oops {text}"))
    }),
    by_hand("settings that Gemini CLI refuses", |patient| {
        edit_settings(patient, |text| text.replacen('{', "{ \"a\": \"x\ty\",", 1));
    }),
    by_hand("directory as settings", |patient| {
        clear(&patient.home.settings());
        fs::create_dir_all(patient.home.settings()).unwrap();
    }),
    repairable("another program is started", |patient| {
        let program = patient.home.lit();
        edit_settings(patient, |text| {
            let Ok(mut settings) = serde_json::from_str::<Value>(text) else {
                return text.to_owned();
            };
            settings["experimental"]["gemmaModelRouter"]["binaryPath"] = json!(program);
            settings.to_string()
        });
    }),
    by_hand("workspace switches the router off", |patient| {
        trust(patient);
        let text = r#"{"experimental": {"gemmaModelRouter": {"enabled": false}}}"#;
        write_workspace(patient, text);
    }),
    by_hand("workspace of another kind", |patient| {
        trust(patient);
        write_workspace(patient, r#"{"experimental": {"gemmaModelRouter": {"enabled": "yes"}}}"#);
    }),
    by_hand("workspace does not parse", |patient| {
        write_workspace(patient, "{ \"a\": 1, }")
    }),
    by_hand("trusted folders do not parse", |patient| {
        let path = patient.home.layout().gemini().join("trustedFolders.json");
        patient.home.write(&path, "{");
    }),
    by_hand("GEMINI_MODEL", |patient| {
        patient.home.set("GEMINI_MODEL", "gemini-2.5-pro")
    }),
    by_hand("GEMINI_MODEL in a file", |patient| {
        fs::write(patient.home.work().join(".env"), "GEMINI_MODEL=gemini-2.5-pro\n").unwrap();
    }),
    by_hand("model.name", |patient| {
        edit_settings(patient, |text| {
            text.replacen('{', "{ \"model\": { \"name\": \"gemini-2.5-pro\" },", 1)
        });
    }),
    repairable("server stopped", |patient| stop(patient)),
    repairable("server killed", |patient| {
        let processes = patient.home.processes();
        for process in &processes {
            kill(process).unwrap();
        }
        wait_until("the server is gone", || !processes.iter().any(is_alive));
    }),
    repairable("port taken", |patient| {
        stop(patient);
        patient
            .listeners
            .extend(TcpListener::bind(("127.0.0.1", patient.home.port)));
    }),
    repairable("pid file gone", |patient| clear(&patient.home.layout().pid_file())),
    repairable("pid file names another", |patient| {
        let text = json!({"pid": std::process::id(), "binaryPath": "x", "port": patient.home.port});
        patient.home.write(&patient.home.layout().pid_file(), &text.to_string());
    }),
    repairable("another port recorded", |patient| {
        let port = free_port().to_string();
        patient.home.gem(&["install", "--no-start", "--port", &port]).run();
    }),
    repairable("another runtime recorded", |patient| {
        patient
            .home
            .gem(&["install", "--no-start", "--runtime", "builtin"])
            .run();
    }),
    repairable("runtime newer than the server", |patient| {
        wait_until("the start is a second ago", || {
            // Content that another fault has left in the file stays.
            let copy = patient.home.beside("copy of the runtime");
            if patient.home.lit().is_file() && fs::copy(patient.home.lit(), &copy).is_ok() {
                let _ = fs::rename(copy, patient.home.lit());
            }
            patient.home.lit().is_dir()
                || !patient.home.lit().exists()
                || advised(&patient.home.doctor().json())
                    .iter()
                    .any(|(id, _)| id.starts_with("server"))
        });
    }),
    repairable("runtime without a supervisor", |patient| {
        stop(patient);
        let port = patient.home.port;
        let mut lit = Command::new(patient.home.lit());
        lit.args(["serve", &format!("--port={port}"), "--verbose"])
            .env("HOME", patient.home.path());
        if let Ok(child) = lit
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
        {
            let text = json!({"pid": child.id(), "binaryPath": patient.home.lit(), "port": port});
            patient.home.write(&patient.home.layout().pid_file(), &text.to_string());
            patient.children.push(child);
            wait_until("the runtime listens", || {
                TcpStream::connect(("127.0.0.1", port)).is_ok()
            });
        }
    }),
    by_hand("directory as log", |patient| {
        stop(patient);
        clear(&patient.home.layout().log_file());
        fs::create_dir_all(patient.home.layout().log_file()).unwrap();
    }),
];

/// Removes whatever is at `path`.
fn clear(path: &Path) {
    let _ = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
}

fn edit_settings(patient: &Patient, edit: impl Fn(&str) -> String) {
    // Another fault may have replaced the file.
    if let Ok(text) = fs::read_to_string(patient.home.settings()) {
        fs::write(patient.home.settings(), edit(&text)).unwrap();
    }
}

fn write_workspace(patient: &Patient, text: &str) {
    patient
        .home
        .write(&patient.home.work().join(".gemini/settings.json"), text);
}

fn trust(patient: &Patient) {
    let rules = json!({patient.home.work().to_str().unwrap(): "TRUST_FOLDER"});
    let path = patient.home.layout().gemini().join("trustedFolders.json");
    patient.home.write(&path, &rules.to_string());
}

fn stop(patient: &Patient) {
    patient.home.gem(&["stop"]).run();
}

/// The checks of `doctor` that did not pass, with the arguments of the advised command.
fn advised(report: &Value) -> Vec<(String, Option<Vec<String>>)> {
    let checks = report["checks"].as_array().unwrap().iter();
    let wrong = checks.filter(|check| check["status"] == "fail" || check["status"] == "warn");
    let advice = wrong.map(|check| (text(check, "id"), command(&text(check, "fix"))));
    advice.collect()
}

fn text(check: &Value, key: &str) -> String {
    check[key].as_str().unwrap_or_default().to_owned()
}

fn command(fix: &str) -> Option<Vec<String>> {
    let (args, _) = fix.strip_prefix("run `gem-setup ")?.split_once('`')?;
    Some(args.split(' ').map(str::to_owned).collect())
}

/// The checks that did not pass, for a message.
fn shown(run: &Run) -> String {
    let report = run.json();
    let wrong = report["checks"].as_array().unwrap().iter();
    let wrong = wrong.filter(|check| check["status"] == "fail" || check["status"] == "warn");
    wrong.map(|check| format!("  {check}\n")).collect()
}

/// Follows the advice until no command is advised; returns the last run of `doctor`.
fn follow(patient: &Patient, names: &str, turn: usize) -> Run {
    let mut followed = BTreeSet::new();
    loop {
        let before = patient.home.doctor();
        let mut commands: Vec<_> = advised(&before.json());
        commands.retain(|(_, command)| command.is_some());
        // Not always the first command, so that the order of the advice does not matter.
        let Some((id, Some(args))) = commands.get(turn % commands.len().max(1)).cloned() else {
            return before;
        };
        assert!(
            followed.insert(id.clone()) || followed.len() > 1,
            "{names}: `{id}` is wrong again after {args:?}: {}",
            shown(&before)
        );
        let words: Vec<&str> = args.iter().map(String::as_str).collect();
        // The advice already names the home.
        let run = patient.home.gem(&words).run();
        if run.status == 9 && run.stderr.contains("is taken by") {
            // Another test has got that port meanwhile; the next advice names another.
            followed.remove(&id);
            continue;
        }
        let after = patient.home.doctor();
        let still = advised(&after.json()).into_iter().any(|(wrong, _)| wrong == id);
        assert!(
            !still,
            "{names}: `{id}` is still wrong after {args:?}: {}\n{}",
            run.stderr,
            shown(&after)
        );
        let left = after.faults();
        assert!(
            run.status == 0 || !left.is_empty(),
            "{names}: {args:?} failed for nothing: {}",
            run.stderr
        );
    }
}

/// Breaks a home in these ways and follows the advice.
fn treat(faults: &[&Fault], turn: usize) {
    let mut patient = Patient {
        home: Home::serving(),
        listeners: Vec::new(),
        children: Vec::new(),
    };
    for fault in faults {
        (fault.cause)(&mut patient);
    }
    let names: Vec<&str> = faults.iter().map(|fault| fault.name).collect();
    let names = names.join(" and ");
    let first = patient.home.doctor();
    let is_seen = first.status != 0 || advised(&first.json()).iter().any(|(_, command)| command.is_some());
    assert!(is_seen, "{names}: `doctor` sees no fault");
    let run = follow(&patient, &names, turn);
    if faults.iter().all(|fault| fault.is_repairable) {
        assert_eq!(run.status, 0, "{names}: {}", shown(&run));
    }
}

/// Treats every group of faults, a few groups at a time.
fn treat_all(groups: &[Vec<&Fault>]) {
    let next = AtomicUsize::new(0);
    let failed = AtomicUsize::new(0);
    let work = || {
        loop {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            let Some(group) = groups.get(turn) else {
                return;
            };
            // One failure must not hide the others.
            if catch_unwind(AssertUnwindSafe(|| treat(group, turn))).is_err() {
                failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(work);
        }
    });
    assert_eq!(failed.into_inner(), 0, "of {} groups", groups.len());
}

#[test]
fn advice_for_each_fault_works() {
    let groups: Vec<_> = FAULTS.iter().map(|fault| vec![fault]).collect();
    treat_all(&groups);
}

/// All pairs take minutes, so this test takes only pairs at a distance of two and of seven; `GEM_SETUP_ALL_PAIRS` selects all.
#[test]
fn advice_for_pairs_of_faults_works() {
    let is_thorough = std::env::var_os("GEM_SETUP_ALL_PAIRS").is_some();
    let mut groups = Vec::new();
    for (first, one) in FAULTS.iter().enumerate() {
        for (second, other) in FAULTS.iter().enumerate().skip(first + 1) {
            if is_thorough || matches!(second - first, 2 | 7) {
                groups.push(vec![one, other]);
            }
        }
    }
    treat_all(&groups);
}

#[test]
fn advice_works_on_an_empty_home() {
    let missing = [
        "runtime missing",
        "model missing",
        "terms missing",
        "settings gone",
        "server stopped",
    ];
    let faults: Vec<_> = FAULTS.iter().filter(|fault| missing.contains(&fault.name)).collect();
    assert_eq!(faults.len(), missing.len());
    treat_all(&[faults.clone(), faults.clone(), faults]);
}
