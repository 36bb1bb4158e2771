//! Errors with the files of a bundle.

use std::path::Path;

use crate::error::{Failure, Kind};

/// The failure for a bundle that cannot be used.
pub(super) fn fault(bundle: &Path, reason: &str) -> Failure {
    Failure::new(
        Kind::Verification,
        format!("cannot use the bundle `{}`: {reason}", bundle.display()),
    )
    .with_hint("copy the bundle again from its origin, or make it again with `gem-setup bundle create`")
}

pub(super) fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Unexpected, format!("cannot write `{}`: {error}", path.display()))
        .with_hint("check that the directory belongs to you and the disk has space")
}

pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Usage, format!("cannot read `{}`: {error}", path.display()))
        .with_hint("check the path and its permissions")
}
