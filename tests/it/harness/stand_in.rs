//! Where the stand-in for `lit` is, and the bytes that the mirrors publish as `lit`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The directory of the support programs: `GEM_SETUP_TEST_BINS`, else they are built beside gem-setup.
fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        if let Some(directory) = std::env::var_os("GEM_SETUP_TEST_BINS") {
            return directory.into();
        }
        let beside = Path::new(env!("CARGO_BIN_EXE_gem-setup")).parent().unwrap();
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
        beside.to_owned()
    })
}

/// A small executable that is the stand-in: a script where there are scripts, for a debug build weighs megabytes.
#[cfg(unix)]
pub(crate) fn executable() -> Vec<u8> {
    let program = directory().join("stand-in-lit");
    format!("#!/bin/sh\nexec '{}' \"$@\"\n", program.display()).into_bytes()
}

/// The stand-in itself.
#[cfg(not(unix))]
pub(crate) fn executable() -> Vec<u8> {
    std::fs::read(directory().join("stand-in-lit.exe")).unwrap()
}
