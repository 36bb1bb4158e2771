//! Errors with the files of a bundle.

use std::path::Path;

use crate::error::{Failure, Kind};

/// Something in the bundle is not as it should be.
pub(super) fn fault(bundle: &Path, reason: &str) -> Failure {
    Failure::new(
        Kind::Verification,
        format!("cannot use the bundle `{}`: {reason}", bundle.display()),
    )
    .with_hint("copy the bundle again from where it was made, or make it again with `gem-setup bundle create`")
}

pub(super) fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Unexpected, format!("cannot write `{}`: {error}", path.display()))
        .with_hint("check that the directory is yours and the disk has room")
}

pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Usage, format!("cannot read `{}`: {error}", path.display()))
        .with_hint("check the path and its permissions")
}
