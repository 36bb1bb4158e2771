//! The retry policy: which failures are retried, how often, and after which wait. One table, one budget.

use std::borrow::Cow;
use std::time::Duration;

use gem_platform::Backoff;
use hyper::StatusCode;
use url::Url;

use super::error::{Error, Tried};
use crate::net::{
    BodyError, ConnectError, INSTALL_AUTHORITIES, NO_AUTHORITIES, Patience, Proxy, SafeUrl, SendError, Stalled,
};

/// Why one exchange with one source failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// No connection: refused, unreachable, name not resolved, too slow.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The connection broke, or the body ended early.
    #[error("the connection broke: {0}")]
    Interrupted(String),
    /// No byte arrived within the limit.
    #[error("nothing arrived for {} s", .0.as_secs_f32())]
    Stalled(Duration),
    /// The server answered with this status.
    #[error("the server answered {}{}", status_text(*code), asks_for(*retry_after))]
    Status {
        /// The status.
        code: u16,
        /// How long the server asks to wait.
        retry_after: Option<Duration>,
    },
    /// The server's certificate is not trusted.
    #[error("the server's certificate is not trusted: {0}")]
    Untrusted(String),
    /// The machine has no CA certificates.
    #[error("{NO_AUTHORITIES}")]
    NoAuthorities,
    /// The proxy requires a login, or another one.
    #[error("the proxy refused the login")]
    ProxyLogin,
    /// The proxy answered with this status instead of connecting to the server.
    #[error("the proxy refused: it answered {}", status_text(*.0))]
    ProxyStatus(u16),
    /// The server does not serve ranges, so a part of the file cannot be requested.
    #[error("the server ignored the requested range")]
    RangeIgnored,
    /// The file on the server has changed since the partial download began.
    #[error("the file changed on the server")]
    Changed,
    /// The response is unusable, and a retry would not help.
    #[error("{0}")]
    Unusable(String),
    /// The server at `url`, which the source redirects to, failed.
    #[error("redirected to `{url}`: {fault}")]
    Redirected {
        /// The URL of that server.
        url: SafeUrl,
        /// Its fault.
        fault: Box<Self>,
    },
    /// The fault is on this side, or final.
    #[error(transparent)]
    Fatal(#[from] Error),
}

/// Advice if the source responds, but the server that it redirects to fails.
const ELSEWHERE: &str = "the server that has the file must be reachable too: have your firewall allow it, or use a mirror (`--mirror URL`), \
                         then run the same command again";

/// A wait, rounded up and in words.
fn in_words(wait: Duration) -> String {
    let seconds = wait.as_secs();
    match (seconds, seconds.div_ceil(60)) {
        (..=119, _) => format!("{seconds} s"),
        (_, minutes @ ..=119) => format!("{minutes} minutes"),
        (_, minutes) => format!("{} hours", minutes.div_ceil(60)),
    }
}

fn asks_for(retry_after: Option<Duration>) -> String {
    let wait = retry_after.filter(|wait| !wait.is_zero());
    wait.map_or_else(String::new, |wait| format!(" and asks to wait {}", in_words(wait)))
}

fn status_text(code: u16) -> String {
    StatusCode::from_u16(code)
        .ok()
        .and_then(|status| status.canonical_reason())
        .map_or_else(|| code.to_string(), |reason| format!("{code} {reason}"))
}

impl From<SendError> for Fault {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Connect(error) => error.into(),
            SendError::Invalid(reason) => Self::Unusable(reason),
            SendError::Broken(error) => Self::Interrupted(crate::error::chain(&error)),
            SendError::Stalled(time) => Self::Stalled(time),
            SendError::Unsound(reason) => Self::Unusable(reason.to_owned()),
            SendError::Redirected { url, error } => Self::from(*error).at(Some(url.expose())),
        }
    }
}

impl From<ConnectError> for Fault {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Untrusted(reason) => Self::Untrusted(reason),
            ConnectError::NoAuthorities => Self::NoAuthorities,
            ConnectError::ProxyLogin => Self::ProxyLogin,
            ConnectError::Proxy(status) => Self::ProxyStatus(status.as_u16()),
            ConnectError::Settings(error) => Self::Fatal(error.into()),
            ConnectError::Failed(_) | ConnectError::TimedOut(_) => Self::Connect(error.to_string()),
        }
    }
}

impl Fault {
    /// The fault as that of the server at `url`, to which the source redirected; a fault on this side is unchanged.
    pub(super) fn at(self, url: Option<&Url>) -> Self {
        match (self, url) {
            (fault @ (Self::Fatal(_) | Self::Changed | Self::RangeIgnored), _) | (fault, None) => fault,
            (fault, Some(url)) => Self::Redirected {
                url: url.into(),
                fault: Box::new(fault),
            },
        }
    }

    /// The fault itself, without the redirection.
    pub(super) fn itself(&self) -> &Self {
        match self {
            Self::Redirected { fault, .. } => fault.itself(),
            fault => fault,
        }
    }

    /// The server's URL, if it is not the source's.
    pub(super) fn elsewhere(&self) -> Option<&Url> {
        match self {
            Self::Redirected { url, .. } => Some(url.expose()),
            _ => None,
        }
    }

    /// The fault for a body that broke off.
    pub(super) fn in_body(error: &BodyError, patience: &Patience) -> Self {
        if Stalled::is_behind(&**error) {
            return Self::Stalled(patience.idle);
        }
        Self::Interrupted(crate::error::chain(&**error))
    }

    /// The table: whether the same request may succeed later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Redirected { fault, .. } => fault.is_transient(),
            Self::Connect(_) | Self::Interrupted(_) | Self::Stalled(_) | Self::Changed | Self::RangeIgnored => true,
            Self::Status { code, .. } | Self::ProxyStatus(code) => matches!(code, 408 | 425 | 429 | 500..=599),
            Self::Untrusted(_) | Self::NoAuthorities | Self::ProxyLogin | Self::Unusable(_) | Self::Fatal(_) => false,
        }
    }

    /// The fault as the final failure of the source at `url`; `proxy` is on the way to the server that failed.
    pub(super) fn into_tried(self, url: SafeUrl, proxy: Option<&Proxy>) -> Tried {
        let way = proxy
            .filter(|_| self.is_proxy_involved(url.expose()))
            .map(|proxy| format!(", through `{}` as `{}` says", proxy.url, proxy.variable))
            .unwrap_or_default();
        let advice = self.advice(!way.is_empty());
        Tried {
            url,
            reason: format!("{self}{way}"),
            advice,
        }
    }

    /// The remedy, if the fault suggests one; `is_by_proxy` if a proxy may have sent the response.
    fn advice(&self, is_by_proxy: bool) -> Option<Cow<'static, str>> {
        let advice = match self {
            Self::Redirected { fault, .. } => {
                return match **fault {
                    Self::Connect(_) | Self::Status { code: 401 | 403, .. } if !is_by_proxy => Some(ELSEWHERE.into()),
                    _ => fault.advice(is_by_proxy),
                };
            }
            Self::Status {
                retry_after: Some(wait),
                ..
            } if self.is_transient() && !wait.is_zero() => {
                let wait = in_words(*wait);
                return Some(format!("run the same command again in {wait}: it continues where it stopped").into());
            }
            Self::Status { code: 429, .. } => {
                "the server got too many requests; run the same command again later: it continues where it stopped"
            }
            Self::Untrusted(_) => {
                "pass the certificate of your company's proxy or mirror with `--ca-cert FILE`, or install the system's CA certificates"
            }
            Self::NoAuthorities => INSTALL_AUTHORITIES,
            Self::ProxyLogin => "put user and password into the proxy variable: `http://user:password@host:port`",
            Self::ProxyStatus(_) => {
                "ask the proxy's administrator to allow the host, use a mirror that it allows (`--mirror URL`), or name the host in `NO_PROXY`"
            }
            Self::Status { code: 404 | 410, .. } => {
                "check the mirror's address and the catalog's URL: the file is not there"
            }
            Self::Status { code: 401 | 403, .. } if is_by_proxy => {
                "check the login in the proxy variable, and the mirror's in `~/.netrc` or in its URL"
            }
            Self::Status { code: 401 | 403, .. } => {
                "put a login for the mirror into `~/.netrc`, or into the mirror's URL"
            }
            _ => return None,
        };
        Some(advice.into())
    }

    /// Whether a proxy on the way to `url` may have caused the fault. A proxy for plain HTTP may have sent the response itself.
    fn is_proxy_involved(&self, url: &Url) -> bool {
        match self {
            Self::Redirected { url, fault } => fault.is_proxy_involved(url.expose()),
            Self::Connect(_) | Self::ProxyLogin | Self::ProxyStatus(_) => true,
            Self::Status { .. } => url.scheme() == "http",
            _ => false,
        }
    }
}

/// The remaining retries of one fetch.
#[derive(Debug)]
pub(super) struct Budget<'a> {
    patience: &'a Patience,
    backoff: Backoff,
    spent_here: u32,
    most_bytes: u64,
}

/// The number of new bytes that shows a source to be alive and resets the budget.
const PROGRESS: u64 = 256 * 1024;

impl<'a> Budget<'a> {
    pub(super) const fn new(patience: &'a Patience) -> Self {
        Self {
            patience,
            backoff: Backoff::new(patience.first_wait, patience.longest_wait),
            spent_here: 0,
            most_bytes: 0,
        }
    }

    /// Starts with the next source, which gets at least one attempt.
    pub(super) const fn next_source(&mut self) {
        self.spent_here = 0;
    }

    /// Notes that `bytes` of the file are in place. Only a new maximum resets the budget, so a server that breaks off at the same byte each
    /// time is not retried without end.
    pub(super) const fn reached(&mut self, bytes: u64) {
        if bytes >= self.most_bytes.saturating_add(PROGRESS) {
            self.most_bytes = bytes;
            self.backoff.reset();
            self.spent_here = 0;
        }
    }

    /// The wait before the next attempt at the same source; `None` if no retry is left.
    pub(super) fn spend(&mut self, fault: &Fault, is_last_source: bool) -> Option<Duration> {
        let limit = self.limit(is_last_source);
        if !fault.is_transient() || self.backoff.failures() >= self.patience.retries || self.spent_here >= limit {
            return None;
        }
        let asked = match fault.itself() {
            Fault::Status { retry_after, .. } => *retry_after,
            _ => None,
        };
        if asked.is_some_and(|asked| asked > self.patience.longest_retry_after) {
            return None;
        }
        let wait = self.backoff.fail(fastrand::f64());
        self.spent_here += 1;
        Some(asked.unwrap_or(wait))
    }

    const fn limit(&self, is_last_source: bool) -> u32 {
        match is_last_source {
            true => self.patience.retries,
            false => self.patience.retries_before_next_source,
        }
    }

    /// The number of the retry that was just spent, and the number that this source gets at most.
    pub(super) fn retries(&self, is_last_source: bool) -> (u32, u32) {
        let here = self.limit(is_last_source).saturating_sub(self.spent_here);
        let left = here.min(self.patience.retries.saturating_sub(self.backoff.failures()));
        (self.spent_here, self.spent_here + left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16) -> Fault {
        Fault::Status {
            code,
            retry_after: None,
        }
    }

    #[test]
    fn exactly_these_faults_are_retried() {
        for code in 400..600 {
            let expected = matches!(code, 408 | 425 | 429) || code >= 500;
            assert_eq!(status(code).is_transient(), expected, "{code}");
        }
        let transient = [
            Fault::Connect(String::new()),
            Fault::Interrupted(String::new()),
            Fault::Stalled(Duration::ZERO),
            Fault::Changed,
            Fault::RangeIgnored,
            Fault::ProxyStatus(503),
        ];
        let permanent = [
            Fault::Untrusted(String::new()),
            Fault::NoAuthorities,
            Fault::ProxyLogin,
            Fault::ProxyStatus(403),
            Fault::Unusable(String::new()),
        ];
        assert!(transient.iter().all(Fault::is_transient));
        assert!(!permanent.iter().any(Fault::is_transient));
    }

    #[test]
    fn a_machine_without_ca_certificates_is_told_so_and_how_to_get_them() {
        let said = ConnectError::NoAuthorities.to_string();
        let url = Url::parse("https://example.org").unwrap();
        let tried = Fault::from(ConnectError::NoAuthorities).into_tried((&url).into(), None);
        assert_eq!(tried.reason, NO_AUTHORITIES);
        assert_eq!(said, format!("{}: {}", tried.reason, tried.advice.unwrap()));
        for remedy in ["`ca-certificates`", "SSL_CERT_FILE", "`--ca-cert`"] {
            assert!(said.contains(remedy), "{said}");
        }
    }

    #[test]
    fn waits_double_up_to_a_cap_and_then_the_budget_is_spent() {
        let patience = Patience {
            retries: 8,
            ..Patience::default()
        };
        let mut budget = Budget::new(&patience);
        let mut longest = patience.first_wait;
        for _ in 0..8 {
            let wait = budget.spend(&status(503), true).unwrap();
            assert!(wait >= longest / 2 && wait <= longest, "{wait:?} of {longest:?}");
            longest = (longest * 2).min(patience.longest_wait);
        }
        assert_eq!(budget.spend(&status(503), true), None);
    }

    #[test]
    fn new_bytes_renew_the_budget_and_old_ones_do_not() {
        let patience = Patience::default();
        let mut budget = Budget::new(&patience);
        let drain = |budget: &mut Budget<'_>| std::iter::from_fn(|| budget.spend(&status(500), true)).count();
        assert_eq!(drain(&mut budget), 5);
        budget.reached(1 << 20);
        assert_eq!(drain(&mut budget), 5);
        budget.reached(1 << 20);
        assert_eq!(drain(&mut budget), 0);
    }

    #[test]
    fn a_source_leaves_retries_to_the_next() {
        let patience = Patience::default();
        let mut budget = Budget::new(&patience);
        assert_eq!(std::iter::from_fn(|| budget.spend(&status(500), false)).count(), 2);
        budget.next_source();
        assert_eq!(
            budget.spend(&status(500), true).map(|_| budget.retries(true)),
            Some((1, 3))
        );
        assert_eq!(std::iter::from_fn(|| budget.spend(&status(500), true)).count(), 2);
    }

    #[test]
    fn retry_after_is_obeyed_up_to_a_limit() {
        let patience = Patience::default();
        let asks = |seconds| Fault::Status {
            code: 429,
            retry_after: Some(Duration::from_secs(seconds)),
        };
        let mut budget = Budget::new(&patience);
        assert_eq!(budget.spend(&asks(7), true), Some(Duration::from_secs(7)));
        assert_eq!(budget.spend(&asks(3600), true), None);
    }
}
