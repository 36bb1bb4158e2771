//! What a runtime is, and the three there are.

mod engine;

pub use engine::{EngineState, EngineStatus};
