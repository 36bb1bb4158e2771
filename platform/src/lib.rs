//! What differs between operating systems, and nothing else.
//!
//! Targets and recipes are values that exist on every host; effects (permission bits, process groups, probes) are compiled
//! per system in sibling files with identical signatures. This crate knows nothing of Gemini CLI.

pub mod console;
pub mod file;
pub mod probe;
pub mod process;
pub mod recipe;
pub mod service;
mod target;

pub use file::{keep_access, sync_dir};
pub use recipe::{Effect, Recipe};
pub use target::{Arch, Os, ParseTargetError, Target};
