//! Processes: supervised children, detached starts, identities, signals.
//!
//! Each system has its own file, with identical signatures.
//!
//! ```
//! use gem_platform::process::identity;
//!
//! let this = identity(std::process::id());
//! assert_eq!(this.map(|process| process.pid), Some(std::process::id()));
//! ```

use std::io::Read;
use std::path::{Path, PathBuf};

mod cpu;
mod listener;
mod null;
mod program;

#[cfg(not(target_os = "linux"))]
mod identity;
#[cfg(unix)]
mod unix;

#[cfg_attr(target_os = "linux", path = "linux.rs")]
#[cfg_attr(target_os = "macos", path = "macos.rs")]
#[cfg_attr(windows, path = "windows.rs")]
mod os;

#[cfg(test)]
mod tests;

pub use cpu::cpu_time;
pub use listener::{Listener, Listening, Owner, listener_on};
pub use null::{NULL, check_null, null_input, null_output, null_remedy, start_remedy};
pub use os::{
    Detached, Guard, ShutdownSignals, StopSignals, Supervised, age, ask_to_end, become_program, check_view, guard,
    has_open, identity, is_root, is_stopped, kill, kill_leftover, notify, pid_space, reap, set_signals, start_detached,
    stop,
};
pub use program::{Identity, Inherit, Program};

/// Whether the process `identity` is still running. A zombie is not.
#[must_use]
pub fn is_alive(expected: &Identity) -> bool {
    identity(expected.pid).is_some_and(|now| now.start_time == expected.start_time)
}

/// The executable of the process `pid`, if the system shows it.
#[must_use]
pub fn executable(pid: u32) -> Option<PathBuf> {
    os::executable(pid)
}

/// Whether `process` runs the executable or script `program`. The command line alone does not prove that.
#[must_use]
pub fn runs_program(process: &Identity, program: &Path) -> bool {
    let Some(executable) = executable(process.pid) else {
        return false;
    };
    let Ok(program) = program.canonicalize() else {
        return false;
    };
    // Windows has several spellings for one path, and the name of a replaced file cannot be resolved.
    if executable == program || executable.canonicalize().is_ok_and(|executable| executable == program) {
        return true;
    }
    // A script is the first or second argument of its interpreter.
    let mut arguments = process.command.iter().skip(1).take(2);
    is_script(&program)
        && arguments.any(|argument| Path::new(argument).canonicalize().is_ok_and(|path| path == program))
}

fn is_script(program: &Path) -> bool {
    let mut beginning = [0; 2];
    let read = crate::file::open_regular(program).and_then(|mut file| file.read_exact(&mut beginning));
    read.is_ok() && beginning == *b"#!"
}
