//! The differences between operating systems, and nothing else.
//!
//! Targets and recipes are values that exist on every host; effects (permission bits, process groups, probes) are compiled
//! per system in sibling files with identical signatures. This crate knows nothing of Gemini CLI.
//!
//! ```
//! use gem_platform::{Recipe, Target};
//!
//! let windows: Target = "windows-x86_64".parse()?;
//! assert_eq!(windows.to_string(), "windows-x86_64");
//! assert_ne!(Recipe::of(windows), Recipe::of("linux-x86_64".parse()?));
//! # Ok::<(), gem_platform::ParseTargetError>(())
//! ```

mod backoff;
pub mod console;
pub mod descriptors;
pub mod file;
pub mod probe;
pub mod process;
pub mod recipe;
pub mod service;
mod target;

pub use backoff::Backoff;
pub use recipe::{Effect, Recipe};
pub use target::{Arch, Os, ParseTargetError, Target};
