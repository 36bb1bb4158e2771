//! Gemini CLI's settings files: their places, the values in effect, and edits of the router's keys.
//!
//! [`load`] reads all scopes, and [`Settings::router`] gives the values in effect and their origin; [`plan`] and
//! [`apply`] write the router's keys; [`remove`] reverts the changes that `apply` recorded, and [`clear`] works without
//! a record. Edits change those keys in the text, so comments, order, indentation and line endings are kept.
//!
//! ```
//! use gem_platform::Os;
//! use gem_setup::environment::Environment;
//! use gem_setup::settings::{Destination, Places, RouterValues, apply, load};
//!
//! let home = tempfile::tempdir()?;
//! let environment = Environment::new([], home.path(), home.path());
//! let places = Places::new(Os::Linux, &environment, home.path());
//! std::fs::create_dir(home.path().join(".gemini"))?;
//! std::fs::write(places.user(), "{\n    // mine\n    \"vimMode\": true\n}\n")?;
//!
//! let values = RouterValues { port: 9379, model: "gemma3-1b-gpu-custom".to_owned(), binary: "/opt/gem-setup".into() };
//! let backups = home.path().join("backups");
//! apply(&places, &environment, Destination::User, &values, &backups, jiff::Timestamp::now())?;
//! assert!(load(&places, &environment).router().enabled.value);
//! assert!(std::fs::read_to_string(places.user())?.contains("// mine"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod backup;
mod edit;
mod env_file;
mod error;
mod expand;
mod load;
mod plain;
mod read;
mod remove;
mod router;
mod scope;
mod splice;
mod strict;
mod text;
mod tree;
mod trust;
mod write;

#[cfg(test)]
mod tests;

pub(crate) use backup::prune;
pub use edit::KeyChange;
pub use env_file::{EnvFile, Variable};
pub use error::Error;
pub use load::{ScopeFile, Settings, load};
pub use read::{Content, Document};
pub use remove::{Cleared, Outcome, Removed, clear, preview, preview_clear, remove, starts};
pub use router::{Effective, Key, Malformed, Origin, RouterSettings, Setting};
pub use scope::{Places, Scope};
pub use strict::Rejection;
pub use trust::Trust;
pub use write::{Applied, AppliedFile, Destination, FilePlan, Plan, Prepared, RouterValues, apply, plan};
