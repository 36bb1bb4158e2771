//! Probes on macOS.

use sysinfo::{CpuRefreshKind, RefreshKind, System};

use super::Gpu;
use super::distribution::Distribution;
use crate::Arch;

pub(super) const fn distribution() -> Option<Distribution> {
    None
}

/// To a translated program the kernel names Intel's architecture as the machine's, but its own version still says what it was
/// built for (`… root:xnu-10002.1.13~1/RELEASE_ARM64_T8103`).
pub(super) fn native_arch() -> Option<Arch> {
    let system = rustix::system::uname();
    let version = system.version().to_string_lossy();
    if version.contains("RELEASE_ARM64") {
        Some(Arch::Arm64)
    } else if version.contains("RELEASE_X86_64") {
        Some(Arch::X86_64)
    } else {
        None
    }
}

/// Apple's processors carry their graphics with them and Metal is part of the system; Intel's machines differ and are not asked.
pub(super) fn gpus() -> Vec<Gpu> {
    if !cfg!(target_arch = "aarch64") {
        return Vec::new();
    }
    let system = System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing())).ok();
    let processor = system.as_ref().and_then(|system| Some(system.cpus().first()?.brand()));
    vec![Gpu {
        name: format!("{} (Metal)", processor.unwrap_or("Apple")),
        device: None,
    }]
}
