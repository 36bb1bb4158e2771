//! What differs between operating systems, and nothing else.
//!
//! Targets and recipes are values that exist on every host; effects (permission bits, process groups, probes) are compiled
//! per system in sibling files with identical signatures. This crate knows nothing of Gemini CLI.

pub mod process;
mod target;

pub use target::{Arch, Os, ParseTargetError, Target};
