//! What a runtime is, and the three there are.

mod activity;
mod command;
mod engine;

pub use activity::{Busy, EngineActivity};
pub use command::CommandLine;
pub use engine::{EngineState, EngineStatus};
