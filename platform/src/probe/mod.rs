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

/// The memory in bytes that this process may use: that of the machine or of its control group, whichever is less;
/// `None` if the system does not say.
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

/// The bytes that this user can still write at `path`. If `path` does not exist, its nearest existing ancestor counts.
///
/// # Errors
/// When the system cannot answer even for the root.
pub fn available_space(path: &Path) -> io::Result<u64> {
    fs4::available_space(nearest_existing(path))
}

/// The size of the file system that `path` is on or would be on, in bytes.
///
/// # Errors
/// Like [`available_space`].
pub fn total_space(path: &Path) -> io::Result<u64> {
    fs4::total_space(nearest_existing(path))
}

/// Limits of a file system beyond permissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Whether the file system is mounted `noexec`, so that no program on it can run.
    pub no_exec: bool,
    /// The number of files that can still be created; `None` without such a limit.
    pub files_left: Option<u64>,
    /// Identifies the file system; `None` where the system has no such number.
    pub device: Option<u64>,
}

/// The file system that `path` is on or would be on.
///
/// # Errors
/// When the system cannot answer.
pub fn volume(path: &Path) -> io::Result<Volume> {
    os::volume(nearest_existing(path))
}

/// `path` itself or its nearest existing ancestor; for a relative path without one, the current directory.
fn nearest_existing(path: &Path) -> &Path {
    path.ancestors()
        .filter(|ancestor| !ancestor.as_os_str().is_empty())
        .find(|ancestor| ancestor.exists())
        .unwrap_or(Path::new("."))
}

/// A graphics processor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// The name for people, as far as the system knows it.
    pub name: String,
    /// The device file that a program must open to use the processor; `None` where there is no such file.
    pub device: Option<Device>,
}

/// A device file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its path.
    pub path: PathBuf,
    /// Whether this user may read and write it.
    pub usable: bool,
}

/// The graphics processors that the system knows.
#[must_use]
pub fn gpus() -> Vec<Gpu> {
    os::gpus()
}

/// Why a shared library cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot load `{library}`: {reason}")]
pub struct LibraryError {
    /// The requested library.
    pub library: String,
    /// The error of the system's loader.
    pub reason: String,
    /// The Linux distribution, to find the package that contains the library.
    pub distribution: Option<Distribution>,
}

/// Loads the shared library `name` the way the runtime would, through the system loader's search path, and releases it.
/// On Linux the path is `LD_LIBRARY_PATH` as this process inherited it, then the loader's cache.
///
/// # Errors
/// When it cannot be loaded.
pub fn load_library(name: &str) -> Result<(), LibraryError> {
    #[expect(unsafe_code, reason = "loading a library runs its initialisers")]
    // SAFETY: only the system's graphics loaders are loaded; any program may open them at any time.
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

/// The text of the innermost cause; the outer error only names the function that was called.
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
