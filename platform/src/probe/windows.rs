//! Probes on Windows.

use std::io;
use std::path::Path;

use windows_sys::Win32::Graphics::Gdi::{DISPLAY_DEVICE_MIRRORING_DRIVER, DISPLAY_DEVICEW, EnumDisplayDevicesW};

use super::distribution::Distribution;
use super::{Gpu, Volume};

pub(super) const fn distribution() -> Option<Distribution> {
    None
}

/// Windows has neither limit.
pub(super) fn volume(path: &Path) -> io::Result<Volume> {
    path.metadata().map(|_| Volume::default())
}

/// Windows lists an adapter once for each screen; its name is kept once.
pub(super) fn gpus() -> Vec<Gpu> {
    let mut gpus: Vec<Gpu> = Vec::new();
    for adapter in (0..).map_while(display_adapter) {
        let length = adapter.DeviceString.iter().take_while(|unit| **unit != 0).count();
        let name = String::from_utf16_lossy(&adapter.DeviceString[..length]);
        let is_real = adapter.StateFlags & DISPLAY_DEVICE_MIRRORING_DRIVER == 0;
        if is_real && !name.is_empty() && gpus.iter().all(|gpu| gpu.name != name) {
            gpus.push(Gpu { name, device: None });
        }
    }
    gpus
}

fn display_adapter(index: u32) -> Option<DISPLAY_DEVICEW> {
    let mut adapter = DISPLAY_DEVICEW {
        cb: u32::try_from(size_of::<DISPLAY_DEVICEW>()).ok()?,
        ..Default::default()
    };
    #[expect(
        unsafe_code,
        reason = "the list of display adapters is reached through the C interface only"
    )]
    // SAFETY: a null name asks for adapters; `adapter` outlives the call and its `cb` holds its size, as the call demands.
    let done = unsafe { EnumDisplayDevicesW(std::ptr::null(), index, &raw mut adapter, 0) };
    (done != 0).then_some(adapter)
}
