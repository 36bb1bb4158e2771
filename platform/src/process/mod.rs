//! Processes: supervised children, detached starts, identities, signals.
//!
//! The effects are in sibling files, one a system, with identical signatures.
//!
//! ```
//! use gem_platform::process::identity;
//!
//! let this = identity(std::process::id());
//! assert_eq!(this.map(|process| process.pid), Some(std::process::id()));
//! ```

mod cpu;
mod program;

#[cfg(not(target_os = "linux"))]
mod identity;
#[cfg(unix)]
mod unix;

#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod os;
#[cfg(target_os = "macos")]
#[path = "macos.rs"]
mod os;
#[cfg(windows)]
#[path = "windows.rs"]
mod os;

#[cfg(test)]
mod tests;

pub use cpu::cpu_time;
pub use os::{
    Detached, Guard, ShutdownSignals, Supervised, ask_to_end, become_program, guard, identity, keep, kill,
    kill_leftover, notify, pid_space, start_detached,
};
pub use program::{Identity, Inherit, Listening, Program, listener_on};

/// Whether the process that `identity` names still runs (a zombie does not).
#[must_use]
pub fn is_alive(expected: &Identity) -> bool {
    identity(expected.pid).is_some_and(|now| now.start_time == expected.start_time)
}
