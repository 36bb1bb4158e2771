//! The empty device, for standard streams without input or reader.
//!
//! Containers lack it, or have a file in its place. `Stdio::null()` then fails with an error that names nothing, and the program to
//! be started is blamed.

use std::io;
use std::process::Stdio;

/// Its path.
pub const NULL: &str = if cfg!(windows) { "NUL" } else { "/dev/null" };

/// A standard input that ends at once.
///
/// # Errors
/// When the device cannot be read; the error names it.
pub fn null_input() -> io::Result<Stdio> {
    open(true, false)
}

/// A standard output that takes everything.
///
/// # Errors
/// When the device cannot be written; the error names it.
pub fn null_output() -> io::Result<Stdio> {
    open(false, true)
}

/// Whether the device exists and can be used.
///
/// # Errors
/// When it is not, or is no device; the error names it.
///
/// ```
/// assert!(gem_platform::process::check_null().is_ok());
/// ```
pub fn check_null() -> io::Result<()> {
    open(true, true)?;
    #[cfg(unix)]
    if !crate::file::is_character_device(std::fs::metadata(NULL)?.file_type()) {
        return Err(io::Error::other(format!("`{NULL}` is not a device")));
    }
    Ok(())
}

/// How to restore the device.
#[must_use]
pub const fn null_remedy() -> &'static str {
    if cfg!(target_os = "linux") {
        "as root, run `rm -f /dev/null` and `mknod -m 666 /dev/null c 1 3`, or create the container again"
    } else {
        "restart the machine"
    }
}

/// Advice where `error` keeps every program from being started; `None` if the program may be at fault.
#[must_use]
pub fn start_remedy(error: &io::Error) -> Option<&'static str> {
    if check_null().is_err() {
        return Some(null_remedy());
    }
    match error.kind() {
        // EAGAIN of fork.
        io::ErrorKind::WouldBlock => Some("the limit of processes is reached: end some, or raise it (`ulimit -u`)"),
        io::ErrorKind::OutOfMemory => Some("the memory is used up: end other programs"),
        _ => None,
    }
}

#[cfg(unix)]
fn open(read: bool, write: bool) -> io::Result<Stdio> {
    let opened = std::fs::File::options().read(read).write(write).open(NULL);
    let opened = opened.map_err(|error| io::Error::new(error.kind(), format!("cannot open `{NULL}`: {error}")));
    opened.map(Into::into)
}

#[cfg(windows)]
#[expect(clippy::unnecessary_wraps, reason = "on Unix it can fail")]
fn open(_read: bool, _write: bool) -> io::Result<Stdio> {
    Ok(Stdio::null())
}
