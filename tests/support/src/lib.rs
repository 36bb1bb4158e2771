//! Stand-ins and servers that gem-setup's tests run against: nothing here is a mock of gem-setup itself.

pub mod mirror;
pub mod server;
pub mod service_manager;
pub mod stand_in;
pub mod upstream;
