//! Terminals on Linux and macOS accept UTF-8 and escape sequences without any setup.

#[derive(Debug)]
pub(super) struct Before;

pub(super) fn prepare() -> Before {
    Before
}
