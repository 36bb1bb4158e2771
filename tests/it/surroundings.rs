//! The shell's variables and files: gem-setup's child processes inherit only the listed ones.
#![cfg(unix)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::harness::{Gem, Home, assert_says};

/// A runtime that records its environment and lists the model.
const LIT: &str = "#!/bin/sh\nenv > \"$0.env\"\necho gemma3-1b-gpu-custom\n";

/// A runtime that repeats its token and its proxy, if it has a token.
const TALKS: &str =
    "#!/bin/sh\n[ -z \"$HF_TOKEN\" ] || { echo \"401 for $HF_TOKEN through $HTTPS_PROXY\" >&2; exit 1; }\n";

#[test]
fn what_a_runtime_says_is_shown_without_secrets() {
    let home = Home::publishing(TALKS.as_bytes());
    home.install(&["--no-start", "--no-model"]).ok();
    let list = home.gem(&["list"]).env("HF_TOKEN", "hf_s3cret");
    let run = list.env("HTTPS_PROXY", "http://ann:pa55@127.0.0.1:9").run();
    assert_says(&run.stderr, &["401 for [hidden] through http://[hidden]@127.0.0.1:9"]);
    assert!(
        !run.stderr.contains("s3cret") && !run.stderr.contains("pa55"),
        "{run:#?}"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn a_server_ends_on_request_whatever_its_parent_blocked() {
    let home = Home::installed();
    let blocking = ["env", "--block-signal=TERM", "--ignore-signal=CHLD"];
    home.gem(&["start"]).under(&blocking).ok();
    let stopped = home.gem(&["stop"]).under(&blocking).ok();
    assert!(!stopped.stdout.contains("killed"), "{stopped:#?}");
}

#[test]
fn a_runtime_inherits_no_keys_and_no_foreign_code() {
    let home = Home::publishing(LIT.as_bytes());
    home.install(&["--no-start", "--no-model"]).ok();
    home.gem(&["list"])
        .env("PYTHONPATH", "/shell")
        .env("LD_PRELOAD", "")
        .env("LD_AUDIT", "")
        .env("GEMINI_API_KEY", "secret")
        .env("GEM_SETUP_PORT", "4711")
        .env("LD_LIBRARY_PATH", "/drivers")
        .env("HTTPS_PROXY", "http://proxy.test:1")
        .ok();
    let seen = fs::read_to_string(home.lit().with_extension("test.env")).unwrap();
    for name in [
        "PYTHONPATH",
        "LD_PRELOAD",
        "LD_AUDIT",
        "GEMINI_API_KEY",
        "GEM_SETUP_PORT",
    ] {
        assert!(!seen.contains(&format!("{name}=")), "{seen}");
    }
    assert_says(
        &seen,
        &["LD_LIBRARY_PATH=/drivers", "HTTPS_PROXY=http://proxy.test:1", "HOME="],
    );
}

/// Makes a wheel called `litert-lm` in the directory and of the version given as its arguments.
const WHEEL: &str = r#"
import sys, zipfile
name = "litert_lm-" + sys.argv[2]
info = name + ".dist-info/"
files = {
    "litert_lm_cli/__init__.py": "",
    "litert_lm_cli/main.py": f"def main():\n    print('litert-lm, version {sys.argv[2]}')\n",
    info + "METADATA": f"Metadata-Version: 2.1\nName: litert-lm\nVersion: {sys.argv[2]}\n",
    info + "WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    info + "entry_points.txt": "[console_scripts]\nlitert-lm = litert_lm_cli.main:main\n",
}
files[info + "RECORD"] = "".join(name + ",,\n" for name in [*files, info + "RECORD"])
with zipfile.ZipFile(f"{sys.argv[1]}/{name}-py3-none-any.whl", "w") as wheel:
    for name, text in files.items():
        wheel.writestr(name, text)
"#;

/// Makes a wheel of `version` in `directory`.
pub(super) fn make_wheel(directory: &Path, version: &str) {
    let made = Command::new("python3")
        .args(["-I", "-c", WHEEL])
        .arg(directory)
        .arg(version)
        .status();
    assert!(made.unwrap().success());
}

/// A home whose catalog names the wheel's version, and the directory with the wheel; `None` without a Python that can make
/// environments.
pub(super) fn with_wheel() -> Option<(Home, PathBuf)> {
    let has_venv = Command::new("python3")
        .args(["-I", "-c", "import ensurepip, venv"])
        .output();
    if !has_venv.is_ok_and(|output| output.status.success()) {
        eprintln!("not tested: there is no Python with venv");
        return None;
    }
    let home = Home::new();
    let wheels = home.beside("wheels");
    fs::create_dir(&wheels).unwrap();
    make_wheel(&wheels, "0.18.1");
    let catalog = "format = 1\n[runtime.litert-lm]\nversion = \"0.18.1\"\n[[model]]\nname = \"gemma3-1b-gpu-custom\"\nterms = []\n";
    fs::write(home.catalog(), catalog).unwrap();
    Some((home, wheels))
}

fn install(home: &Home) -> Gem {
    let rest = ["--no-model", "--no-start", "--no-smoke", "--no-settings", "--catalog"];
    let port = home.port.to_string();
    home.gem(&["install", "--json", "--runtime", "litert-lm", "--port", &port])
        .args(rest)
        .arg(home.catalog())
}

#[test]
fn the_shell_does_not_reach_the_python_environment() {
    let Some((home, wheels)) = with_wheel() else { return };
    let shell = home.beside("shell");
    fs::create_dir_all(shell.join("litert_lm_cli")).unwrap();
    fs::write(
        shell.join("litert_lm_cli/__init__.py"),
        "raise RuntimeError('of the shell')",
    )
    .unwrap();
    // `-m` looks for modules in the current directory first.
    fs::write(home.work().join("venv.py"), "raise RuntimeError('of the directory')").unwrap();
    let elsewhere = home.beside("elsewhere");
    let files = format!(
        "[global]\nno-index = true\nfind-links = {}\n[install]\ntarget = {}\nuser = true\n",
        wheels.display(),
        elsewhere.display()
    );
    fs::write(home.beside("pip.conf"), files).unwrap();
    let in_shell = |gem: Gem| {
        gem.env("PYTHONPATH", &shell)
            .env("PYTHONHOME", "/nowhere")
            .env("PIP_TARGET", &elsewhere)
            .env("PIP_PREFIX", &elsewhere)
            .env("PIP_CONFIG_FILE", home.beside("pip.conf"))
    };
    in_shell(install(&home)).ok();
    assert!(!elsewhere.exists(), "packages were put elsewhere");
    assert_eq!(
        in_shell(home.doctor_command()).run().check("runtime.loader")["status"],
        "ok"
    );

    // An upgrade of the system's Python.
    let lib = home.layout().litert_lm_env().join("lib");
    let version = fs::read_dir(&lib).unwrap().next().unwrap().unwrap().path();
    fs::rename(version, lib.join("python3.1")).unwrap();
    assert_eq!(home.doctor().check("runtime.binary")["status"], "fail");
    assert_eq!(in_shell(install(&home)).ok().step("runtime"), "changed");
    assert_eq!(home.doctor().check("runtime.loader")["status"], "ok");
}
