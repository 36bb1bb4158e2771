//! Terminals on Linux and macOS accept UTF-8 and escape sequences without any setup.

#[derive(Debug)]
pub(super) struct Before;

pub(super) fn prepare() -> Before {
    Before
}

pub(super) fn is_in_foreground() -> bool {
    let foreground = rustix::termios::tcgetpgrp(std::io::stderr());
    foreground.is_ok_and(|group| group == rustix::process::getpgrp()) || foreground.is_err()
}
