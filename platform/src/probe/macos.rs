//! Probes on macOS.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::statfs;
use sysinfo::{CpuRefreshKind, RefreshKind, System};

use super::distribution::Distribution;
use super::{Gpu, Volume};

pub(super) const fn distribution() -> Option<Distribution> {
    None
}

pub(super) fn volume(path: &Path) -> io::Result<Volume> {
    let found = statfs(path)?;
    Ok(Volume {
        no_exec: found.f_flags & libc::MNT_NOEXEC.cast_unsigned() != 0,
        files_left: (found.f_files > 0).then_some(found.f_ffree),
        device: Some(path.metadata()?.dev()),
    })
}

/// Apple's processors contain the graphics processor, and Metal is part of the system. Intel machines differ and are
/// not examined.
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
