//! The state that all requests share. A changed configuration replaces the old one between two requests.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::config::Config;
use super::shared::Shared;

/// The state for the next request.
pub(super) struct Current(ArcSwap<Shared>);

impl Current {
    pub(super) fn new(shared: Shared) -> Self {
        Self(ArcSwap::from_pointee(shared))
    }

    pub(super) fn load(&self) -> Arc<Shared> {
        self.0.load_full()
    }

    /// Applies each configuration in `updates` until the sender is gone.
    pub(super) async fn follow(&self, mut updates: watch::Receiver<Config>) {
        while updates.changed().await.is_ok() {
            let config = updates.borrow_and_update().clone();
            match self.load().renewed(config) {
                Ok(shared) => self.0.store(Arc::new(shared)),
                Err(error) => tracing::warn!("the former settings stay in force: {error}"),
            }
        }
    }
}
