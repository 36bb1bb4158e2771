//! Probes on macOS.

use sysinfo::{CpuRefreshKind, RefreshKind, System};

use super::Gpu;
use super::distribution::Distribution;

pub(super) const fn distribution() -> Option<Distribution> {
    None
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
