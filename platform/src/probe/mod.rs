//! This machine's memory, disk, graphics and loadable libraries.
//!
//! ```
//! use gem_platform::probe::{available_space, load_library};
//!
//! assert!(available_space(&std::env::temp_dir())? > 0);
//! assert!(load_library("no-such-library").is_err());
//! # Ok::<(), std::io::Error>(())
//! ```

pub mod distribution;
#[cfg_attr(target_os = "linux", path = "linux.rs")]
#[cfg_attr(target_os = "macos", path = "macos.rs")]
#[cfg_attr(windows, path = "windows.rs")]
mod os;

use std::io;
use std::path::{Path, PathBuf};

use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use distribution::Distribution;
pub use distribution::{OPENGL, VULKAN_LOADER};

/// The bytes of memory that this process may come to use: the machine's, or its control group's where that is less; `None` where
/// the system does not tell.
#[must_use]
pub fn memory() -> Option<u64> {
    let system =
        System::new_with_specifics(RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram())).ok()?;
    let group = system.cgroup_limits().map(|limits| limits.total_memory);
    [Some(system.total_memory()), group]
        .into_iter()
        .flatten()
        .filter(|bytes| *bytes > 0)
        .min()
}

/// The bytes that this user can still write at `path`, which need not exist yet: asked of its nearest ancestor that does.
///
/// # Errors
/// When not even the root can be asked.
pub fn available_space(path: &Path) -> io::Result<u64> {
    fs4::available_space(nearest_existing(path))
}

/// The size of the file system that `path` is on or would be on, in bytes.
///
/// # Errors
/// As [`available_space`].
pub fn total_space(path: &Path) -> io::Result<u64> {
    fs4::total_space(nearest_existing(path))
}

/// The limits of a file system in addition to permissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Whether no program on it can be run (mounted `noexec`).
    pub no_exec: bool,
    /// The number of files that it can still hold; `None` without such a limit.
    pub files_left: Option<u64>,
}

/// The file system that `path` is on or would be on.
///
/// # Errors
/// When it cannot be asked.
pub fn volume(path: &Path) -> io::Result<Volume> {
    os::volume(nearest_existing(path))
}

/// `path` itself or its nearest ancestor that exists; the current directory for a relative path of which nothing does.
fn nearest_existing(path: &Path) -> &Path {
    path.ancestors()
        .filter(|ancestor| !ancestor.as_os_str().is_empty())
        .find(|ancestor| ancestor.exists())
        .unwrap_or(Path::new("."))
}

/// A graphics processor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// The name that people use, as far as the system knows it.
    pub name: String,
    /// The device that a program must be allowed to open to use it, and whether this user may; `None` where there is no such
    /// device.
    pub device: Option<Device>,
}

/// A device file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Where it is.
    pub path: PathBuf,
    /// Whether this user may read and write it.
    pub usable: bool,
}

/// The graphics processors that the system knows of; empty where it knows none.
#[must_use]
pub fn gpus() -> Vec<Gpu> {
    os::gpus()
}

/// Why a shared library cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot load `{library}`: {reason}")]
pub struct LibraryError {
    /// The library that was asked for.
    pub library: String,
    /// The error of the system's loader.
    pub reason: String,
    /// The Linux distribution, which knows the package with the library.
    pub distribution: Option<Distribution>,
}

/// Loads the shared library `name` as the runtime would, by the system loader's own search path (on Linux that is
/// `LD_LIBRARY_PATH` as it was when this process began, then the loader's cache), and lets it go again.
///
/// # Errors
/// When it cannot be loaded.
pub fn load_library(name: &str) -> Result<(), LibraryError> {
    #[expect(unsafe_code, reason = "loading a library runs its initialisers")]
    // SAFETY: the libraries asked for are the system's graphics loaders, made to be opened by any program at any time.
    let loaded = unsafe { libloading::Library::new(name) };
    match loaded {
        Ok(_) => Ok(()),
        Err(error) => Err(LibraryError {
            library: name.to_owned(),
            reason: innermost(&error).trim_start_matches(&format!("{name}: ")).to_owned(),
            distribution: os::distribution(),
        }),
    }
}

/// The text of the first cause: the library's wrapper around it says only which function was called.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_memory() {
        let bytes = memory().unwrap();
        assert!(bytes > 64 << 20, "{bytes}");
    }

    #[test]
    fn space_is_that_of_the_nearest_ancestor() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("not").join("there").join("yet");
        assert_eq!(nearest_existing(&deep), dir.path());
        assert_eq!(nearest_existing(Path::new("nothing/of/this")), Path::new("."));
        assert!(available_space(&deep).unwrap() > 0);
    }

    #[test]
    fn a_library_that_is_nowhere_is_named_with_the_loaders_reason() {
        let error = load_library("libno-such-thing.so.1").unwrap_err();
        assert_eq!(error.library, "libno-such-thing.so.1");
        assert!(!error.reason.is_empty());
        assert_eq!(error.distribution, os::distribution());
    }

    #[test]
    fn a_library_of_the_system_loads() {
        let name = match std::env::consts::OS {
            "windows" => "kernel32.dll",
            "macos" => "libSystem.B.dylib",
            _ => "libc.so.6",
        };
        load_library(name).unwrap();
    }

    #[test]
    fn listing_graphics_processors_works_with_and_without_one() {
        assert!(gpus().iter().all(|gpu| !gpu.name.is_empty()));
    }
}
