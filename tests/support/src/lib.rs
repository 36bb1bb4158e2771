//! Stand-ins and servers that gem-setup tests run against.

pub mod engine;
pub mod upstream;
