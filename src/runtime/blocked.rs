//! Programs that the system blocks (docs/facts.md section 2), and hints for them.
//!
//! ```
//! use gem_platform::Os;
//! use gem_setup::runtime::if_blocked;
//!
//! let hint = if_blocked(Os::Macos, "signal: 9 (SIGKILL)");
//! assert!(hint.is_some_and(|hint| hint.contains("Allow Anyway")));
//! assert_eq!(if_blocked(Os::Macos, "exit status: 1"), None);
//! ```

use std::io;

use gem_platform::Os;

/// The errors of Windows if SmartScreen, Smart App Control, a virus scanner or a policy refuses to start a program.
const REFUSALS: [i32; 4] = [225, 1260, 4551, 740];

/// The hint if the system `os` has blocked a program that ended with `outcome`.
#[must_use]
pub fn if_blocked(os: Os, outcome: &str) -> Option<&'static str> {
    if !outcome.contains("SIGKILL") && !outcome.contains("signal: 9") {
        return None;
    }
    match os {
        Os::Macos => Some(
            "macOS has probably blocked it: click \"Allow Anyway\" in System Settings, Privacy & Security, or run \
             `gem-setup doctor --fix`, which removes the quarantine as `xattr -d com.apple.quarantine FILE` does; then \
             run the command again",
        ),
        Os::Linux => {
            Some("the system killed it, most likely for lack of memory; free some, or use `--runtime builtin`")
        }
        Os::Windows => None,
    }
}

/// Like [`if_blocked`], for this machine.
pub(crate) fn if_blocked_here(outcome: &str) -> Option<&'static str> {
    if_blocked(Os::HOST, outcome)
}

/// The hint if this machine refused to start a program with `error`.
pub(crate) fn if_refused(error: &io::Error) -> Option<&'static str> {
    let is_refusal = Os::HOST == Os::Windows && error.raw_os_error().is_some_and(|code| REFUSALS.contains(&code));
    is_refusal.then_some(
        "Windows has blocked it (SmartScreen, Smart App Control or a virus scanner): tick \"Unblock\" in the file's \
         properties, or run `Unblock-File` on it in PowerShell; then run the command again",
    )
}
