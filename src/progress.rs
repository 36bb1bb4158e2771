//! Progress reports of long work. The worker does not know how they are shown.
//!
//! ```
//! use std::sync::atomic::{AtomicU64, Ordering};
//!
//! use gem_setup::progress::Progress;
//!
//! #[derive(Default)]
//! struct Total(AtomicU64);
//!
//! impl Progress for Total {
//!     fn begin(&self, _: &str, _: &str, _: Option<u64>) {}
//!     fn advance(&self, _: &str, done: u64, _: Option<u64>) {
//!         self.0.store(done, Ordering::Relaxed);
//!     }
//!     fn finish(&self, _: &str) {}
//!     fn note(&self, _: &str, _: &str) {}
//! }
//!
//! let total = Total::default();
//! total.advance("model", 512, Some(1024));
//! assert_eq!(total.0.into_inner(), 512);
//! ```

/// Hears of the progress of one piece of work at a time, each named by an id (a step id such as `runtime`).
///
/// Implementations are called often and must be cheap; they throttle what they show.
pub trait Progress: Send + Sync {
    /// Work on `id` began; `label` is what a person is told it is, `total` the bytes to come if known.
    fn begin(&self, id: &str, label: &str, total: Option<u64>);

    /// `done` bytes of `total` are in place.
    fn advance(&self, id: &str, done: u64, total: Option<u64>);

    /// The work on `id` ended, well or not.
    fn finish(&self, id: &str);

    /// A remark for a person while `id` is under way, such as "server ignored the range, starting over".
    fn note(&self, id: &str, text: &str);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _id: &str, _label: &str, _total: Option<u64>) {}
    fn advance(&self, _id: &str, _done: u64, _total: Option<u64>) {}
    fn finish(&self, _id: &str) {}
    fn note(&self, _id: &str, _text: &str) {}
}
