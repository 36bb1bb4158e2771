//! A server whose gem-setup was replaced while it runs, as a package manager does.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::harness::{Gem, Home, assert_says};

/// Puts a copy of gem-setup, with `mark` appended, at a lasting place of `home`.
fn place(home: &Home, mark: &str) -> PathBuf {
    let program = home
        .path()
        .join("bin")
        .join(format!("gem-setup{}", std::env::consts::EXE_SUFFIX));
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    // Windows does not replace a program that is running, but renames it.
    let _ = fs::rename(&program, program.with_extension("old"));
    fs::copy(env!("CARGO_BIN_EXE_gem-setup"), &program).unwrap();
    let mut file = fs::File::options().append(true).open(&program).unwrap();
    file.write_all(mark.as_bytes()).unwrap();
    program
}

fn install(home: &Home, program: &Path) -> Gem {
    let port = home.port.to_string();
    let install = home.program(program).args(["install", "--json", "--no-smoke"]);
    install.args(["--runtime", "builtin", "--port", &port])
}

fn server(home: &Home, program: &Path) -> u64 {
    let status = home.program(program).args(["status", "--json"]).ok();
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    status["pid"].as_u64().unwrap()
}

#[test]
fn install_restarts_a_server_whose_program_was_replaced() {
    let home = Home::new();
    let program = place(&home, "");
    install(&home, &program).ok();
    let first = server(&home, &program);
    assert_eq!(install(&home, &program).ok().changed(), [""; 0]);

    place(&home, "rebuilt");
    let check = home
        .program(&program)
        .args(["doctor", "--json"])
        .run()
        .check("server.process");
    assert_eq!(check["status"], "warn", "{check}");
    let status = home.program(&program).args(["status"]).ok();
    assert_says(&status.stdout, &["executable has been replaced", "gem-setup restart"]);

    assert_eq!(install(&home, &program).ok().changed(), ["server"]);
    assert_ne!(server(&home, &program), first);
    assert_eq!(install(&home, &program).ok().changed(), [""; 0]);
    home.program(&program).args(["stop"]).ok();
}

#[test]
fn a_server_of_another_version_is_restarted() {
    let home = Home::new();
    let program = place(&home, "");
    install(&home, &program).ok();
    let record = home.layout().server_file();
    let text = fs::read_to_string(&record).unwrap();
    let current = format!("\"version\":\"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(text.contains(&current), "{text}");
    fs::write(&record, text.replace(&current, "\"version\":\"0.0.9\"")).unwrap();
    let status = home.program(&program).args(["status"]).ok();
    assert_says(&status.stdout, &["gem-setup 0.0.9", "gem-setup restart"]);
    home.program(&program).args(["restart"]).ok();
    let status = home.program(&program).args(["status"]).ok();
    assert!(!status.stdout.contains("0.0.9"), "{}", status.stdout);
    home.program(&program).args(["stop"]).ok();
}
