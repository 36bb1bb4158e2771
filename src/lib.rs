//! Sets up, supervises and serves local model routing for Gemini CLI.
//!
//! The map of the crate; imports go down this list only:
//!
//! - `cli`: clap structs, one small file per command
//! - `report`: output for people, JSON, bars, questions
//! - [`setup`], [`supervise`], [`gateway`], [`router`], [`settings`]: the product's tasks
//! - [`runtime`], [`fetch`], [`catalog`]: the runtimes, and how they are downloaded
//! - [`net`], [`lock`], [`place`], [`record`], [`sha256`], [`shell`], [`threads`], `appender`, `rotation`, [`layout`]: shared mechanisms
//! - [`environment`], [`progress`], [`text`], [`error`]: types that every module gets and returns
//! - `gem_platform`: the differences between operating systems
//!
//! Below `cli` nothing prints, reads the environment or uses the current directory: callers pass these in.
//!
//! ```
//! use gem_setup::router::Tier;
//! use gem_setup::router::classify::builtin;
//!
//! let verdict = builtin::classify("rename x to y in a.py", &[]);
//! assert_eq!(verdict.tier, Tier::Flash);
//! println!("{}", verdict.reasoning);
//! ```

mod appender;
pub mod catalog;
pub mod environment;
pub mod error;
pub mod fetch;
pub mod gateway;
pub mod layout;
pub mod lock;
pub mod net;
pub mod place;
pub mod progress;
pub mod record;
mod rotation;
pub mod router;
pub mod runtime;
pub mod settings;
pub mod setup;
pub mod sha256;
pub mod shell;
pub mod supervise;
pub mod text;
pub mod threads;
mod version;
