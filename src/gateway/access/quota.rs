//! Limits for each client: requests per minute and requests at once. Each replica of the gateway counts separately.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Limit;

const MINUTE: Duration = Duration::from_secs(60);
/// It is unknown when a request in progress will end, but clients should not retry immediately.
const SOON: Duration = Duration::from_secs(1);

/// The limits of one client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Requests within 60 seconds.
    pub per_minute: Limit,
    /// Requests in progress at the same time.
    pub at_once: Limit,
}

/// Why a client has to wait, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exceeded {
    pub(super) limit: &'static str,
    pub(super) most: u32,
    pub(super) retry_after: Duration,
}

/// The clients seen so far.
#[derive(Debug)]
pub(super) struct Quotas {
    quota: Quota,
    clients: Mutex<HashMap<Arc<str>, Arc<Usage>>>,
}

#[derive(Debug, Default)]
struct Usage {
    /// The times of the last minute's requests, oldest first; empty without a limit per minute.
    recent: Mutex<VecDeque<Instant>>,
    in_progress: AtomicU32,
    requests: AtomicU64,
    limited: AtomicU64,
}

/// One client's counters.
#[derive(Debug)]
pub(in crate::gateway) struct ClientCounts {
    pub(in crate::gateway) name: Arc<str>,
    pub(in crate::gateway) requests: u64,
    pub(in crate::gateway) limited: u64,
    pub(in crate::gateway) in_progress: u32,
}

/// Counts a request as in progress until it is dropped.
#[derive(Debug)]
pub(in crate::gateway) struct Permit(Arc<Usage>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.in_progress.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Quotas {
    pub(super) fn new(quota: Quota) -> Self {
        let clients = Mutex::default();
        Self { quota, clients }
    }

    /// Counts a request of the client `name`, or returns the limit that it exceeds.
    pub(super) fn admit(&self, name: &Arc<str>) -> Result<Permit, Exceeded> {
        let usage = Arc::clone(lock(&self.clients).entry(Arc::clone(name)).or_default());
        let admitted = usage.admit(self.quota);
        let counter = if admitted.is_ok() {
            &usage.requests
        } else {
            &usage.limited
        };
        counter.fetch_add(1, Ordering::Relaxed);
        admitted.map(|()| Permit(usage))
    }

    /// The counters of every client, by name.
    pub(super) fn counts(&self) -> Vec<ClientCounts> {
        let clients = lock(&self.clients);
        let counts = clients.iter().map(|(name, usage)| ClientCounts {
            name: Arc::clone(name),
            requests: usage.requests.load(Ordering::Relaxed),
            limited: usage.limited.load(Ordering::Relaxed),
            in_progress: usage.in_progress.load(Ordering::Relaxed),
        });
        let mut counts: Vec<_> = counts.collect();
        counts.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        counts
    }
}

impl Usage {
    fn admit(&self, quota: Quota) -> Result<(), Exceeded> {
        let before = self.in_progress.fetch_add(1, Ordering::AcqRel);
        let admitted = match quota.at_once.filter(|most| before >= most.get()) {
            Some(most) => Err(Exceeded {
                limit: "requests at once",
                most: most.get(),
                retry_after: SOON,
            }),
            None => self.count(quota.per_minute),
        };
        if admitted.is_err() {
            self.in_progress.fetch_sub(1, Ordering::AcqRel);
        }
        admitted
    }

    fn count(&self, per_minute: Limit) -> Result<(), Exceeded> {
        let Some(most) = per_minute else { return Ok(()) };
        let (now, mut recent) = (Instant::now(), lock(&self.recent));
        while recent
            .front()
            .is_some_and(|oldest| now.duration_since(*oldest) >= MINUTE)
        {
            recent.pop_front();
        }
        match recent.front() {
            Some(oldest) if recent.len() >= most.get() as usize => Err(Exceeded {
                limit: "requests a minute",
                most: most.get(),
                retry_after: MINUTE.saturating_sub(now.duration_since(*oldest)),
            }),
            _ => {
                recent.push_back(now);
                Ok(())
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_leaves_the_quota_after_a_minute() {
        let quotas = Quotas::new(Quota {
            per_minute: NonZeroU32::new(2),
            at_once: None,
        });
        let (ada, bob) = ("ada".into(), "bob".into());
        assert!(quotas.admit(&ada).is_ok());
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(quotas.admit(&ada).is_ok());
        assert_eq!(quotas.admit(&ada).unwrap_err().retry_after, Duration::from_secs(40));
        assert!(quotas.admit(&bob).is_ok());
        tokio::time::advance(Duration::from_secs(40)).await;
        assert!(quotas.admit(&ada).is_ok());
        assert_eq!(quotas.admit(&ada).unwrap_err().retry_after, Duration::from_secs(20));
        let counts = quotas.counts();
        assert_eq!((&*counts[0].name, counts[0].requests, counts[0].limited), ("ada", 3, 2));
    }

    #[tokio::test]
    async fn a_request_in_progress_counts_until_its_end() {
        let quotas = Quotas::new(Quota {
            per_minute: None,
            at_once: NonZeroU32::new(1),
        });
        let ada = "ada".into();
        let first = quotas.admit(&ada).unwrap();
        for _ in 0..2 {
            assert_eq!(quotas.admit(&ada).unwrap_err().limit, "requests at once");
        }
        drop(first);
        assert!(quotas.admit(&ada).is_ok());
        assert_eq!(quotas.counts()[0].in_progress, 0);
    }
}
