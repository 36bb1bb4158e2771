//! The faces of the gateway that answer the Gemini API.

pub(super) mod caches;
pub(super) mod classifier;
mod decision;
pub(super) mod local;
mod local_stream;
mod prompt;
pub(super) mod resource;
pub(super) mod upstream;
