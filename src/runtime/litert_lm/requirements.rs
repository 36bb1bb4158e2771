//! The requirements file, in a form that both pip and uv can read.

use std::fmt::Write as _;

use crate::catalog::RuntimeEntry;

/// The requirements file for the pinned version. It lists every package with its hashes if the catalog has them.
/// Otherwise it names only `litert-lm`, and the tool chooses the dependencies.
#[must_use]
pub fn requirements(entry: &RuntimeEntry) -> String {
    if entry.packages.is_empty() {
        return format!("{}=={}\n", super::PROGRAM, entry.version);
    }
    let mut text = String::new();
    for package in &entry.packages {
        let _ = write!(text, "{}=={}", package.name, package.version);
        for hash in &package.sha256 {
            let _ = write!(text, " --hash=sha256:{hash}");
        }
        text.push('\n');
    }
    text
}
