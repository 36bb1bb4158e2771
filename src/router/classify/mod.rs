//! Classifiers: from a request and its history to a tier.

pub mod builtin;
pub mod clean;
