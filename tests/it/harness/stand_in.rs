//! The stand-in for `lit`, and the bytes that the mirrors publish as `lit`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::tree;

const NAME: &str = if cfg!(windows) {
    "stand-in-lit.exe"
} else {
    "stand-in-lit"
};

/// The stand-in's program: in `GEM_SETUP_TEST_BINS`, else beside gem-setup, where it is built if it is out of date.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| match std::env::var_os("GEM_SETUP_TEST_BINS") {
        Some(directory) => Path::new(&directory).join(NAME),
        None => build(),
    })
}

fn build() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_gem-setup")).parent().unwrap();
    let program = beside.join(NAME);
    let built = fs::metadata(&program).and_then(|metadata| metadata.modified()).ok();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/src");
    let changed = tree(&source, &[]).into_values().flatten().map(|(_, time)| time).max();
    if built > changed {
        // `cargo test --workspace` has built it, which is cheaper than building it alone.
        return program;
    }
    let profile = match beside.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        other => other,
    };
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--package=gem-setup-support",
            "--bins",
            "--profile",
            profile,
        ])
        .arg("--target-dir")
        .arg(beside.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap();
    assert!(status.success(), "cannot build the stand-in: {status}");
    program
}

/// A small executable that runs the stand-in: a script where the system has scripts, because a debug build has many megabytes.
#[cfg(unix)]
pub(crate) fn executable() -> Vec<u8> {
    format!("#!/bin/sh\nexec '{}' \"$@\"\n", program().display()).into_bytes()
}

/// The stand-in itself.
#[cfg(not(unix))]
pub(crate) fn executable() -> Vec<u8> {
    fs::read(program()).unwrap()
}
