//! Settings of the terminal.
//!
//! ```
//! let console = gem_platform::console::prepare();
//! // Print in UTF-8 and with colours.
//! drop(console); // The window is as it was before.
//! ```

#[cfg_attr(unix, path = "unix.rs")]
#[cfg_attr(windows, path = "windows.rs")]
mod os;

/// The console's former settings; dropping this value restores them.
#[must_use = "dropping this restores the console's old settings"]
#[derive(Debug)]
pub struct Console {
    _before: os::Before,
}

/// Makes the console accept UTF-8 and escape sequences, from this process and from the children that share it.
///
/// Only Windows needs this. Does nothing for streams without a console, or if the console refuses.
pub fn prepare() -> Console {
    Console { _before: os::prepare() }
}

/// Whether this process may draw on the terminal of standard error: a background job would draw over what is typed.
#[must_use]
pub fn is_in_foreground() -> bool {
    os::is_in_foreground()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_terminal_nothing_is_in_the_background() {
        if !std::io::IsTerminal::is_terminal(&std::io::stderr()) {
            assert!(is_in_foreground());
        }
    }

    #[test]
    fn preparing_twice_and_without_a_console_does_no_harm() {
        let first = prepare();
        drop(prepare());
        drop(first);
    }
}
