//! Disks that are full, read-only, or contain something else.

use std::path::Path;
use std::process::Command;

use super::{Scene, patience};
use crate::error::{Failure, Kind};
use crate::fetch::Fetcher;
use crate::net::Network;
use crate::progress::Silent;

const LENGTH: usize = 3_000_000;

#[tokio::test]
async fn a_directory_in_the_place_fails_before_a_download() {
    let scene = Scene::new(LENGTH);
    std::fs::create_dir_all(scene.place().join("inside")).unwrap();
    let failure = scene.failure().await;
    assert_eq!(failure.kind, Kind::Download);
    assert!(
        failure.message.contains(&scene.place().display().to_string()),
        "{failure}"
    );
    assert!(failure.hint.is_some());
    assert!(scene.place().join("inside").is_dir());
    assert!(scene.server.asked().is_empty());
}

#[tokio::test]
async fn a_file_where_a_directory_should_be_is_named() {
    let scene = Scene::new(LENGTH);
    let bin = scene.directory.path().join("bin");
    std::fs::write(&bin, "mine").unwrap();
    let failure = scene.failure().await;
    assert_eq!(failure.kind, Kind::Download);
    assert!(failure.message.contains(&format!("`{}`", bin.display())), "{failure}");
    assert_eq!(std::fs::read(bin).unwrap(), b"mine");
    assert!(scene.server.asked().is_empty());
}

#[tokio::test]
async fn the_old_file_stays_until_the_new_one_is_verified() {
    let scene = Scene::new(LENGTH);
    std::fs::create_dir_all(scene.place().parent().unwrap()).unwrap();
    std::fs::write(scene.place(), "old").unwrap();
    scene.server.script([gem_setup_support::fault::Fault::Corrupt]);
    assert_eq!(scene.failure().await.kind, Kind::Verification);
    assert_eq!(std::fs::read(scene.place()).unwrap(), b"old");
    scene.fetch().await.unwrap();
    scene.assert_complete();
}

/// A file system of one megabyte, unmounted on drop; `None` if this account may not mount.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(at)
            .output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(self.0).status().unwrap();
    }
}

#[tokio::test]
async fn a_full_disk_is_reported_with_path_and_advice() {
    let scene = Scene::new(LENGTH);
    let disk = scene.directory.path().join("disk");
    let mounted = SmallDisk::mount(&disk, "size=1m");
    // Without the right to mount, Linux's always full device is used instead.
    let downloads = disk.join("downloads");
    if mounted.is_none() {
        std::fs::create_dir_all(&downloads).unwrap();
        let part = downloads.join(format!("{}.part", scene.request().sha256));
        assert!(
            Command::new("ln")
                .args(["-s", "/dev/full"])
                .arg(part)
                .status()
                .unwrap()
                .success()
        );
    }
    let fetcher = Fetcher::new(
        Network::default().with_patience(patience()),
        downloads,
        Vec::new(),
        false,
    )
    .unwrap();
    let failure = Failure::from(fetcher.fetch(&scene.request(), &Silent).await.unwrap_err());
    assert_eq!(failure.kind, Kind::Download);
    assert!(
        failure.message.contains("disk is full") && failure.message.contains("/disk/downloads/"),
        "{failure}"
    );
    let hint = failure.hint.unwrap();
    assert!(hint.contains("free at least") && hint.contains("MB"), "{hint}");
    scene.assert_absent();
}

#[tokio::test]
async fn a_file_is_moved_to_another_file_system() {
    let scene = Scene::new(100_000);
    let disk = scene.directory.path().join("disk");
    let _mounted = SmallDisk::mount(&disk, "size=1m");
    let mut request = scene.request();
    request.place = disk.join("bin/file.bin");
    scene.fetcher().fetch(&request, &Silent).await.unwrap();
    assert_eq!(std::fs::read(&request.place).unwrap(), scene.content);
    assert_eq!(std::fs::read_dir(disk.join("bin")).unwrap().count(), 1);
    assert_eq!(scene.partials(), 0);
}

#[tokio::test]
async fn a_place_that_becomes_too_small_keeps_the_old_file() {
    let scene = Scene::new(LENGTH);
    let disk = scene.directory.path().join("disk");
    let Some(_mounted) = SmallDisk::mount(&disk, "size=1m") else {
        // Without a second file system, the file cannot be moved; the full disk above is tested everywhere.
        return;
    };
    let mut request = scene.request();
    request.place = disk.join("file.bin");
    std::fs::write(&request.place, "old").unwrap();
    let failure = Failure::from(scene.fetcher().fetch(&request, &Silent).await.unwrap_err());
    assert_eq!(failure.kind, Kind::Download);
    assert!(failure.message.contains("disk is full"), "{failure}");
    assert_eq!(std::fs::read(&request.place).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(&disk).unwrap().count(), 1);
}

#[tokio::test]
async fn a_read_only_place_is_reported_before_a_download() {
    let scene = Scene::new(LENGTH);
    // On Linux, no account, not even root, can create files below /proc.
    let mut request = scene.request();
    request.place = "/proc/gem-setup/file.bin".into();
    let failure = Failure::from(scene.fetcher().fetch(&request, &Silent).await.unwrap_err());
    assert_eq!(failure.kind, Kind::Download);
    assert!(failure.message.contains("/proc/gem-setup"), "{failure}");
    assert!(failure.hint.is_some());
    assert!(scene.server.asked().is_empty());
}

#[tokio::test]
async fn a_file_of_unknown_length_leaves_room_and_no_remains() {
    let scene = Scene::new(LENGTH);
    let disk = scene.directory.path().join("disk");
    let Some(_mounted) = SmallDisk::mount(&disk, "size=2m") else {
        return;
    };
    scene.server.script([gem_setup_support::fault::Fault::NoLength]);
    let downloads = disk.join("downloads");
    let network = Network::default().with_patience(patience());
    let fetcher = Fetcher::new(network, downloads.clone(), Vec::new(), false).unwrap();
    let failure = Failure::from(fetcher.fetch(&scene.request(), &Silent).await.unwrap_err());
    assert_eq!(failure.kind, Kind::Download);
    assert!(failure.message.contains("disk is full"), "{failure}");
    assert_eq!(std::fs::read_dir(downloads).unwrap().count(), 0);
}

#[tokio::test]
async fn an_excessive_length_is_refused_before_a_write() {
    let scene = Scene::new(1000);
    scene
        .server
        .script([gem_setup_support::fault::Fault::DeclareLength(1 << 40)]);
    let failure = scene.failure().await;
    assert_eq!(failure.kind, Kind::Verification);
    assert!(failure.message.contains("longer than"), "{failure}");
    assert_eq!(scene.partials(), 0);
}
