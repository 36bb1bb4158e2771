//! Terminals on macOS take UTF-8 and escape sequences without being asked.

#[derive(Debug)]
pub(super) struct Before;

pub(super) fn prepare() -> Before {
    Before
}
