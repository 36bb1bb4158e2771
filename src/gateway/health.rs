//! The health of the hosted models, for each client by itself: a quota belongs to the credential that the upstream gets.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::Uri;
use hyper::header::{HeaderMap, HeaderName};

use super::consent::client_key;
use crate::router::ModelAvailability;

/// The maximum number of remembered clients.
const REMEMBERED: usize = 1024;
/// The project whose quota a request with a login uses.
const PROJECT: HeaderName = HeaderName::from_static("x-goog-user-project");

/// What is known of the hosted models, for each client and for all. It is kept in memory only.
#[derive(Debug, Default)]
pub struct Health {
    all: Arc<ModelAvailability>,
    hasher: RandomState,
    clients: Mutex<Clients>,
}

#[derive(Debug, Default)]
struct Clients {
    /// By the keyed hash of the credential: the number of the last request, and the record.
    known: HashMap<u64, (u64, Arc<ModelAvailability>)>,
    requests: u64,
}

impl Health {
    /// The failures for any client that no later answer, to any client, has ended.
    #[must_use]
    pub const fn of_all(&self) -> &Arc<ModelAvailability> {
        &self.all
    }

    /// What is known for requests with the credential of this one. Requests without a credential share a record.
    pub(super) fn of(&self, headers: &HeaderMap, uri: &Uri) -> Arc<ModelAvailability> {
        let key = client_key(headers, uri.query());
        let project = headers.get(PROJECT).map(|project| project.as_bytes());
        self.of_client(self.hasher.hash_one((key, project)))
    }

    fn of_client(&self, client: u64) -> Arc<ModelAvailability> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.requests += 1;
        let now = clients.requests;
        if !clients.known.contains_key(&client) && clients.known.len() >= REMEMBERED {
            let oldest = clients.known.iter().min_by_key(|(_, (last, _))| *last);
            if let Some(oldest) = oldest.map(|(client, _)| *client) {
                clients.known.remove(&oldest);
            }
        }
        let new = || (now, Arc::new(ModelAvailability::reporting_to(Arc::clone(&self.all))));
        let (last, record) = clients.known.entry(client).or_insert_with(new);
        *last = now;
        Arc::clone(record)
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
        for client in 2..=REMEMBERED as u64 {
            health.of_client(0);
            health.of_client(client);
        }
        assert!(!health.of_client(0).is_untroubled());
        assert_eq!(health.clients.lock().unwrap().known.len(), REMEMBERED);
        assert!(health.of_client(1).is_untroubled());
        assert!(!health.of_all().is_untroubled());
    }
}
