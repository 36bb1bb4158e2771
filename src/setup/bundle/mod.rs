//! Bundles: everything that machines without internet need, in one directory or tar file.
//!
//! A bundle is a mirror on disk (docs/contract.md section 3). It contains a catalog of its content, the wheels of
//! `litert-lm`, the model, and a list of all files with their hashes, which can be signed.

mod archive;
mod check;
mod claim;
mod contents;
mod create;
mod faults;
mod making;
mod open;
mod programs;
mod request;
mod signature;
mod targets;

pub use self::check::{CheckedBundle, check_bundle};
pub use self::contents::SUMS;
pub(super) use self::contents::{MODELS, Sums, WHEELS};
pub use self::create::create_bundle;
pub use self::open::OpenBundle;
pub use self::request::{Bundle, BundleRequest, BundleTools, BundledFile, ModelRequest};
pub use self::targets::BundledTarget;
