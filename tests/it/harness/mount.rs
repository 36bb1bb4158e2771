//! File systems and files that are mounted for a test.

use std::ffi::CStr;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};

use super::wait_until;

/// A mount at a path, until it is dropped.
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// A file system in memory on `directory`; `None` where this process may not mount.
    pub(crate) fn on(directory: PathBuf, options: &CStr) -> Option<Self> {
        Self::with(directory, MountFlags::empty(), options)
    }

    /// A file system in memory that forbids running programs.
    pub(crate) fn no_exec(directory: PathBuf) -> Option<Self> {
        Self::with(directory, MountFlags::NOEXEC, c"size=16m")
    }

    fn with(directory: PathBuf, flags: MountFlags, options: &CStr) -> Option<Self> {
        fs::create_dir_all(&directory).unwrap();
        let done = mount("none", &directory, "tmpfs", flags, options);
        Self::if_allowed(directory, done)
    }

    /// The file `from` in place of the file `to`.
    pub(crate) fn file(from: &Path, to: PathBuf) -> Option<Self> {
        let done = mount_bind(from, &to);
        Self::if_allowed(to, done)
    }

    /// A read-only mount of the directory on itself.
    pub(crate) fn frozen(directory: PathBuf) -> Option<Self> {
        let mounted = Self::file(&directory, directory.clone())?;
        mount_remount(&directory, MountFlags::BIND | MountFlags::RDONLY, "").unwrap();
        Some(mounted)
    }

    fn if_allowed(path: PathBuf, done: Result<(), Errno>) -> Option<Self> {
        match done {
            Ok(()) => Some(Self(path)),
            Err(Errno::PERM | Errno::ACCESS) => {
                eprintln!("not tested: this account may not mount a file system");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) fn make_read_only(&self) {
        // A process that another test is starting holds files that were open for writing until its exec.
        wait_until("no file there is open for writing", || {
            match mount_remount(&self.0, MountFlags::RDONLY, "") {
                Err(Errno::BUSY) => false,
                done => {
                    done.unwrap();
                    true
                }
            }
        });
    }

    pub(crate) fn make_writable(&self) {
        mount_remount(&self.0, MountFlags::empty(), "").unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}
