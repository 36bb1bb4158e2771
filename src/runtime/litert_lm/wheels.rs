//! The wheels of `litert-lm` for machines without a package index.

use std::ffi::OsString;
use std::path::Path;

use gem_platform::process::Guard;
use gem_platform::{Arch, Os, Target};

use super::build::{Build, in_scratch};
use super::error::{Error, Task};
use super::installer::{Installer, pip_sources};
use super::venv::Venv;
use crate::environment::Environment;
use crate::progress::Progress;

/// The glibc versions 2.17 to 2.40, which occur in the names of Linux wheels.
const GLIBC: std::ops::RangeInclusive<u32> = 17..=40;
/// The newest macOS in the names of wheels; pip then also accepts wheels for older ones.
const MACOS: &str = "macosx_26_0_arm64";
/// The Python version for packages that differ by it; none of the pinned ones does.
const PYTHON: &str = "3.13";

/// The wheel platforms that run on `target`, by pip's names.
fn platforms(target: Target) -> Vec<String> {
    let arch = match target.arch {
        Arch::X86_64 => "x86_64",
        Arch::Arm64 => "aarch64",
    };
    match target.os {
        Os::Linux => GLIBC.rev().map(|minor| format!("manylinux_2_{minor}_{arch}")).collect(),
        Os::Macos => vec![MACOS.to_owned()],
        Os::Windows => vec!["win_amd64".to_owned()],
    }
}

/// Where wheels are downloaded.
#[derive(Clone, Copy, Debug)]
pub struct WheelDirectories<'a> {
    /// The destination. A wheel that is in it already may stay although it is not needed.
    pub to: &'a Path,
    /// Wheels that need not be downloaded.
    pub known: &'a Path,
    /// For the downloading pip itself; the caller deletes it.
    pub scratch: &'a Path,
}

/// Downloads the wheels that satisfy `requirements` on each of `targets` with a pip of its own.
///
/// # Errors
/// When a tool fails, or when a wheel is missing from the index or has another hash than `requirements` says.
pub async fn download_wheels(
    targets: &[Target],
    directories: &WheelDirectories<'_>,
    requirements: &str,
    environment: &Environment,
    guard: &Guard,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let installer = Installer::find(environment).await?;
    let scratch = directories.scratch;
    let host = Os::HOST;
    let build = Build {
        installer: &installer,
        venv: &Venv::new(scratch.join("env"), scratch.join("env.old"), host),
        requirements,
        wheels: None,
        version: "",
        environment,
        guard,
        progress,
    };
    let [create, mut pip] = installer
        .pip_commands(build.venv)
        .map(|command| in_scratch(command, scratch));
    build.run_tool(Task::Create, &create).await?;
    pip.env.extend(pip_sources(&build.venv.python(), environment).await);
    let file = scratch.join("requirements.txt");
    build.in_directory(std::fs::write(&file, requirements))?;
    pip.args.extend(arguments(directories, &file, requirements));
    for target in targets {
        let mut download = pip.clone();
        for platform in platforms(*target) {
            download.args.extend(["--platform".into(), platform.into()]);
        }
        build.run_tool(Task::Install, &download).await?;
    }
    Ok(())
}

/// pip's arguments for each platform.
fn arguments(directories: &WheelDirectories<'_>, file: &Path, requirements: &str) -> Vec<OsString> {
    let words = [
        "download",
        "--only-binary",
        ":all:",
        "--python-version",
        PYTHON,
        "--dest",
    ];
    let mut arguments = Vec::from(words.map(OsString::from));
    arguments.extend([directories.to.into(), "--find-links".into(), directories.known.into()]);
    arguments.extend(["--requirement".into(), file.into()]);
    if requirements.contains("--hash=") {
        arguments.extend(["--require-hashes", "--no-deps"].map(OsString::from));
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_with_an_engine_has_platforms() {
        let names = |target: &str| platforms(target.parse().unwrap()).join(" ");
        assert!(names("linux-x86_64").contains("manylinux_2_27_x86_64"));
        assert!(names("linux-arm64").contains("manylinux_2_27_aarch64"));
        assert_eq!(names("windows-x86_64"), "win_amd64");
        assert!(names("macos-arm64").ends_with("_arm64"));
    }
}
