//! The faces of the gateway that answer the Gemini API.

mod attempt;
pub(super) mod caches;
pub(super) mod classifier;
mod decision;
pub(super) mod local;
mod local_stream;
mod prompt;
pub(super) mod resource;
pub(super) mod upstream;
