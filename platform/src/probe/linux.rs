//! Probes on Linux.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, StatVfsMountFlags, access, statvfs};

use super::distribution::Distribution;
use super::{Device, Gpu, Volume};

/// The files that `os-release(5)` names, in order.
const OS_RELEASE: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

pub(super) fn distribution() -> Option<Distribution> {
    let text = OS_RELEASE.iter().find_map(|path| fs::read_to_string(path).ok())?;
    Distribution::parse(&text)
}

pub(super) fn volume(path: &Path) -> io::Result<Volume> {
    let found = statvfs(path)?;
    Ok(Volume {
        no_exec: found.f_flag.contains(StatVfsMountFlags::NOEXEC),
        files_left: (found.f_files > 0).then_some(found.f_favail),
        device: Some(path.metadata()?.dev()),
    })
}

pub(super) fn gpus() -> Vec<Gpu> {
    gpus_under(Path::new("/"))
}

/// The graphics processors that sysfs and `/proc` below `root` show: cards of the direct rendering manager, NVIDIA's
/// driver where it works without that, and the processor that Windows shares with WSL.
fn gpus_under(root: &Path) -> Vec<Gpu> {
    let mut gpus = cards(root);
    if gpus.is_empty() {
        let others = [
            ("NVIDIA graphics", "dev/nvidia0"),
            ("Windows' graphics (WSL)", "dev/dxg"),
        ];
        let present = others.into_iter().filter(|(_, device)| root.join(device).exists());
        gpus.extend(present.map(|(name, path)| Gpu {
            name: name.to_owned(),
            device: Some(device(root.join(path))),
        }));
    }
    gpus
}

/// One graphics processor for each render node: the device that programs open to compute without a screen.
fn cards(root: &Path) -> Vec<Gpu> {
    let Ok(entries) = fs::read_dir(root.join("sys/class/drm")) else {
        return Vec::new();
    };
    let mut nodes: Vec<_> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("renderD"))
        .collect();
    nodes.sort();
    let gpu = |node: &String| Gpu {
        name: card_name(&root.join("sys/class/drm").join(node).join("device")),
        device: Some(device(root.join("dev/dri").join(node))),
    };
    nodes.iter().map(gpu).collect()
}

/// The vendor by its PCI identifier, with the device's number. For a device on another bus, the driver's name at most.
fn card_name(device: &Path) -> String {
    let read = |file: &str| fs::read_to_string(device.join(file)).map(|text| text.trim().to_owned());
    let Ok(vendor) = read("vendor") else {
        let driver = fs::read_link(device.join("driver")).unwrap_or_default();
        let name = driver.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return if name.is_empty() { "unknown".to_owned() } else { name };
    };
    let maker = match vendor.as_str() {
        "0x1002" => "AMD",
        "0x10de" => "NVIDIA",
        "0x8086" => "Intel",
        "0x1af4" => "virtio",
        "0x15ad" => "VMware",
        "0x1414" => "Microsoft",
        "0x5143" => "Qualcomm",
        other => other,
    };
    format!("{maker} {}", read("device").unwrap_or_default())
        .trim_end()
        .to_owned()
}

fn device(path: PathBuf) -> Device {
    Device {
        usable: access(&path, Access::READ_OK | Access::WRITE_OK).is_ok(),
        path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_card_is_named_by_its_maker_and_told_apart_from_one_without_a_device() {
        let root = tempfile::tempdir().unwrap();
        let drm = root.path().join("sys/class/drm");
        for (node, vendor) in [("renderD128", "0x10de\n"), ("renderD129", "0x8086\n")] {
            write(drm.join(node).join("device/vendor"), vendor);
            write(drm.join(node).join("device/device"), "0x2684\n");
        }
        fs::create_dir_all(drm.join("card0-HDMI-A-1")).unwrap();
        write(root.path().join("dev/dri/renderD128"), "");
        let gpus = gpus_under(root.path());
        let seen: Vec<_> = gpus
            .iter()
            .map(|gpu| (gpu.name.as_str(), gpu.device.as_ref().unwrap().usable))
            .collect();
        assert_eq!(seen, [("NVIDIA 0x2684", true), ("Intel 0x2684", false)]);
    }

    #[test]
    fn a_device_on_another_bus_goes_by_its_drivers_name() {
        let root = tempfile::tempdir().unwrap();
        let device = root.path().join("sys/class/drm/renderD128/device");
        fs::create_dir_all(&device).unwrap();
        std::os::unix::fs::symlink("../../bus/platform/drivers/v3d", device.join("driver")).unwrap();
        assert_eq!(gpus_under(root.path())[0].name, "v3d");
    }

    #[test]
    fn the_graphics_of_a_linux_subsystem_are_found() {
        let root = tempfile::tempdir().unwrap();
        write(root.path().join("dev/dxg"), "");
        assert_eq!(gpus_under(root.path())[0].name, "Windows' graphics (WSL)");
    }

    #[test]
    fn a_machine_without_graphics_has_none() {
        assert_eq!(gpus_under(tempfile::tempdir().unwrap().path()), []);
    }
}
