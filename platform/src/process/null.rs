//! The null device, for standard streams without input or reader.
//!
//! In a container it may be missing or replaced by a file. `Stdio::null()` then fails with an error that names no path,
//! so the program to be started seems to be at fault.

use std::io;
use std::process::Stdio;

/// Its path.
pub const NULL: &str = if cfg!(windows) { "NUL" } else { "/dev/null" };

/// A standard input without content.
///
/// # Errors
/// When the device cannot be opened; the error names it.
pub fn null_input() -> io::Result<Stdio> {
    open(true, false)
}

/// A standard output that discards everything.
///
/// # Errors
/// When the device cannot be opened; the error names it.
pub fn null_output() -> io::Result<Stdio> {
    open(false, true)
}

/// Checks that the device exists and can be used.
///
/// # Errors
/// When it cannot be used or is not a device; the error names it.
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

/// The hint that says how to restore the device.
#[must_use]
pub const fn null_remedy() -> &'static str {
    if cfg!(target_os = "linux") {
        "as root, run `rm -f /dev/null` and `mknod -m 666 /dev/null c 1 3`, or create the container again"
    } else {
        "restart the machine"
    }
}

/// The hint for an `error` that prevents every program from starting; `None` if the program itself may be at fault.
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
#[expect(clippy::unnecessary_wraps, reason = "the same signature as on Unix")]
fn open(_read: bool, _write: bool) -> io::Result<Stdio> {
    Ok(Stdio::null())
}
