//! gem-setup's own executables in a bundle: one for each platform for which one is available.

use std::fs;
use std::path::{Path, PathBuf};

use gem_platform::{Arch, Os, Target};
use object::{Architecture, BinaryFormat, Object};

use super::faults::unreadable;
use crate::error::{Failure, Kind};

/// The path of gem-setup's executable for `target` in a bundle.
#[must_use]
pub(super) fn inside(target: Target) -> String {
    let suffix = if target.os == Os::Windows { ".exe" } else { "" };
    format!("gem-setup/{target}/gem-setup{suffix}")
}

/// Refuses executables that do not run on their stated platform, and executables for other platforms than `targets`.
pub(super) fn check(programs: &[(Target, PathBuf)], targets: &[Target]) -> Result<(), Failure> {
    programs.iter().try_for_each(|(target, file)| {
        let refused = |reason: String| {
            let message = format!("cannot bundle `{}` as gem-setup for {target}: {reason}", file.display());
            Failure::new(Kind::Usage, message)
        };
        if !targets.contains(target) {
            let hint = format!("add `--target {target}`, or leave out its `--program`");
            return Err(refused("the bundle is not for that platform".to_owned()).with_hint(hint));
        }
        let runs = match platform_of(file)? {
            Some(platform) if platform == *target => return Ok(()),
            Some(platform) => format!("it runs on {platform}"),
            None => "it is not an executable of a known platform".to_owned(),
        };
        Err(refused(runs).with_hint(format!("pass the build of gem-setup for {target}")))
    })
}

/// The platform on which the executable `file` runs.
fn platform_of(file: &Path) -> Result<Option<Target>, Failure> {
    let bytes = fs::read(file).map_err(|error| unreadable(file, &error))?;
    let executable = object::File::parse(&*bytes).ok();
    Ok(executable.and_then(|executable| {
        let os = match executable.format() {
            BinaryFormat::Elf => Os::Linux,
            BinaryFormat::MachO => Os::Macos,
            BinaryFormat::Pe => Os::Windows,
            _ => return None,
        };
        let arch = match executable.architecture() {
            Architecture::X86_64 => Arch::X86_64,
            Architecture::Aarch64 => Arch::Arm64,
            _ => return None,
        };
        Some(Target::new(os, arch))
    }))
}
