//! Stand-ins and servers for gem-setup's tests; none of them replaces a part of gem-setup itself.
//!
//! ```
//! let mirror = gem_setup_support::mirror::Mirror::start();
//! mirror.publish("/google/tool", "hello");
//! assert!(mirror.asked().is_empty());
//! ```

pub mod engine;
pub mod fault;
pub mod mirror;
pub mod scripted_upstream;
pub mod server;
pub mod service_manager;
pub mod stand_in;
pub mod upstream;
