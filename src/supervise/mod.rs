//! The life of a server: its supervised engine, its log, its files, and how the server is started, found and stopped.
//!
//! - [`run`] keeps the engine alive: readiness, health, backoff, shutdown
//! - [`Claim`] is the right to serve a home, in the form of a held lock; [`observe`] finds the server that holds it
//! - [`start`] and [`stop`] manage a detached server; [`tail`] and [`Follower`] read its log
//!
//! ```
//! use gem_setup::layout::Layout;
//! use gem_setup::supervise::{Running, observe, tail};
//!
//! let home = tempfile::tempdir()?;
//! let layout = Layout::new(home.path(), home.path());
//! assert_eq!(observe(&layout)?, Running::No);
//! assert!(tail(&layout.log_file(), 10)?.is_empty());
//! # Ok::<(), std::io::Error>(())
//! ```

mod backoff;
mod claim;
mod detach;
mod files;
mod log;
mod logs;
mod noise;
mod notify;
mod output;
mod own;
mod pid;
mod probe;
mod readiness;
mod remote;
mod shutdown;
mod source;
mod spawn;
mod status;
mod stop;
mod supervisor;
mod takeover;
mod trial;

#[cfg(test)]
mod tests;

pub use backoff::BackoffLimits;
pub use claim::{Claim, Error as ClaimError, ends_within, free_port_after};
pub use detach::{Error as StartError, READY_WITHIN, STARTING, StartRequest, Started, join_running, start};
pub use files::{MOUNT_PROC, remedy};
pub use log::{LineWriter, Log};
pub use logs::{Follower, tail};
pub use notify::ServiceManager;
pub use output::EngineOutput;
pub use own::OwnProgram;
pub use pid::{Owner, PidFile};
pub use readiness::{HealthLimits, REFUSED_REMEDY};
pub use remote::{Remote, ask, consent, is_ready, is_silent, is_stranger, peer, refresh};
pub use shutdown::{Shutdown, ask as ask_to_shut_down, on_signals, reached};
pub use source::{CommandSource, CurrentCommand};
pub use status::{EngineRecord, Running, ServerIdentity, ServerRecord, UPSTREAM, observe};
pub use stop::{Error as StopError, GRACE, Stopped, Vacancy, check_stoppable, stop, vacate};
pub use supervisor::{EngineConfig, STOP_GRACE, SuperviseConfig, run};
pub use takeover::{Taken, await_engine};
pub use trial::{Trial, TrialConfig};

/// The source of the supervisor's own lines in the log.
const OWN_SOURCE: &str = "gem-setup";
