//! How long work tells that it advances, without knowing who listens.

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
