//! The health of the hosted models, for each client by itself: a quota belongs to the credential that the upstream gets.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::Uri;
use hyper::header::{HeaderMap, HeaderName};
use lru::LruCache;

use super::secrets::credential;
use crate::router::ModelAvailability;

/// The maximum number of remembered clients.
const REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);
/// The project whose quota a request with a login uses.
const PROJECT: HeaderName = HeaderName::from_static("x-goog-user-project");

/// The failures of the hosted models, for each client and for all. They are kept in memory only.
#[derive(Debug)]
pub struct Health {
    all: Arc<ModelAvailability>,
    hasher: RandomState,
    /// By the keyed hash of the credential.
    clients: Mutex<LruCache<u64, Arc<ModelAvailability>>>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            all: Arc::default(),
            hasher: RandomState::new(),
            clients: Mutex::new(LruCache::new(REMEMBERED)),
        }
    }
}

impl Health {
    /// The failures for any client that no later answer, to any client, has ended.
    #[must_use]
    pub const fn of_all(&self) -> &Arc<ModelAvailability> {
        &self.all
    }

    /// The record for requests with the credential of this one. Requests without a credential share a record.
    pub(super) fn of(&self, headers: &HeaderMap, uri: &Uri) -> Arc<ModelAvailability> {
        let key = credential(headers, uri.query());
        let project = headers.get(PROJECT).map(|project| project.as_bytes());
        self.of_client(self.hasher.hash_one((key, project)))
    }

    fn of_client(&self, client: u64) -> Arc<ModelAvailability> {
        let new = || Arc::new(ModelAvailability::reporting_to(Arc::clone(&self.all)));
        Arc::clone(self.clients().get_or_insert(client, new))
    }

    /// Makes every model available again to every client. The failures stay listed.
    pub(super) fn reset(&self) {
        self.all.reset();
        self.clients().iter().for_each(|(_, record)| record.reset());
    }

    fn clients(&self) -> MutexGuard<'_, LruCache<u64, Arc<ModelAvailability>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::Terminal;

    #[test]
    fn each_credential_has_its_own_record() {
        let health = Health::default();
        let record = |uri: &'static str, headers: &[(&'static str, &'static str)]| {
            let headers = headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
                .collect();
            health.of(&headers, &Uri::from_static(uri))
        };
        let first = record("/?key=k1", &[]);
        for (uri, headers, is_same) in [
            ("/?alt=sse&key=k1", &[][..], true),
            ("/", &[("x-goog-api-key", "k1")], true),
            ("/?access_token=k2", &[], false),
            ("/", &[("x-goog-api-key", "k2")], false),
            ("/", &[("authorization", "Bearer t")], false),
            ("/?key=k1", &[("x-goog-user-project", "p")], false),
            ("/", &[], false),
        ] {
            assert_eq!(Arc::ptr_eq(&first, &record(uri, headers)), is_same, "{uri} {headers:?}");
        }
        assert!(Arc::ptr_eq(&record("/", &[]), &record("/?key=", &[])));
    }

    #[test]
    fn the_record_that_was_not_used_for_longest_is_dropped() {
        let health = Health::default();
        let model = "m".parse().unwrap();
        for client in [0, 1] {
            let quota = Terminal::Quota { until: None };
            health.of_client(client).mark_terminal(&model, quota);
        }
        for client in 2..=REMEMBERED.get() as u64 {
            health.of_client(0);
            health.of_client(client);
        }
        assert!(!health.of_client(0).is_untroubled());
        assert_eq!(health.clients().len(), REMEMBERED.get());
        assert!(health.of_client(1).is_untroubled());
        assert!(!health.of_all().is_untroubled());
    }
}
