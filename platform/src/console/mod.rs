//! The terminal's own settings.
//!
//! ```
//! let console = gem_platform::console::prepare();
//! // Print in UTF-8 and with colours.
//! drop(console); // The window is as it was before.
//! ```

#[cfg_attr(target_os = "linux", path = "linux.rs")]
#[cfg_attr(target_os = "macos", path = "macos.rs")]
#[cfg_attr(windows, path = "windows.rs")]
mod os;

/// The console as it was before; dropping it puts that back.
#[must_use = "the console's old settings return when this is dropped"]
#[derive(Debug)]
pub struct Console {
    _before: os::Before,
}

/// Makes the console take UTF-8 and escape sequences, from this process and from the children that share it.
///
/// Only Windows needs the request. Streams without a console are left alone, and so is a console that refuses.
pub fn prepare() -> Console {
    Console { _before: os::prepare() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preparing_twice_and_without_a_console_does_no_harm() {
        let first = prepare();
        drop(prepare());
        drop(first);
    }
}
