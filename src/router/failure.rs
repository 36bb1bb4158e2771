//! Reads a model's failure from a Google API error (docs/facts.md section 4).

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use crate::net::{LONGEST_DELAY, parse_retry_after};
use crate::text::words;

/// A delay longer than this means that the quota is used up.
pub const LONGEST_TRANSIENT_DELAY: Duration = Duration::from_secs(300);

/// The delay for a quota per minute if the error states none.
const MINUTE: Duration = Duration::from_secs(60);

/// The hour in UTC after which daily quotas are renewed: midnight in Pacific standard time. Under daylight saving time
/// they are renewed an hour earlier (<https://ai.google.dev/gemini-api/docs/rate-limits>).
const DAILY_RENEWAL_HOUR_UTC: i64 = 8;

words! {
    /// The kinds of failure that a policy distinguishes.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub enum FailureKind {
        /// The model will not answer for a long time.
        Terminal = "terminal",
        /// The same request may succeed after a pause.
        Transient = "transient",
        /// The upstream does not know the model.
        NotFound = "not_found",
        /// Any other failure.
        Unknown = "unknown",
    }
}

/// Whether the request of a failed attempt may be sent again, to the same model or another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// The upstream refused the request, or never received it.
    Safe,
    /// The upstream may have acted on the request.
    MayHaveActed,
    /// The request itself is at fault: every model would refuse it.
    Pointless,
}

/// Why a model did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFailure {
    /// The kind of failure.
    pub kind: FailureKind,
    /// The time until the model answers again: stated by the upstream, or derived from the renewal of quotas.
    pub delay: Option<Duration>,
    /// Whether the model lacks capacity; if not, a quota is used up.
    pub lacks_capacity: bool,
    /// The upstream's message.
    pub message: String,
}

/// A response of the upstream that is not a success.
#[derive(Clone, Copy, Debug)]
pub struct ErrorResponse<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The unchanged `Retry-After` header.
    pub retry_after: Option<&'a str>,
    /// The body: a Google API error in JSON, or anything else.
    pub body: &'a [u8],
    /// When the response arrived; dates in it are compared with this time.
    pub received: Timestamp,
}

impl ModelFailure {
    /// A failure of `kind` without further details.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            delay: None,
            lacks_capacity: false,
            message: message.into(),
        }
    }

    /// The failure in an event of a stream that began as a success, and its status; `None` for other events.
    #[must_use]
    pub fn in_event(data: &[u8]) -> Option<(u16, Self)> {
        let status = GoogleError::parse(data)?.code.unwrap_or(500);
        let response = ErrorResponse {
            status,
            retry_after: None,
            body: data,
            received: Timestamp::now(),
        };
        Some((status, Self::from_response(&response)))
    }

    /// Reads the failure from `response`.
    #[must_use]
    pub fn from_response(response: &ErrorResponse<'_>) -> Self {
        let error = GoogleError::parse(response.body).unwrap_or_default();
        let status = error.code.unwrap_or(response.status);
        let failure = |kind, delay| Self {
            delay,
            ..Self::new(kind, error.message_or(response))
        };
        if status == 404 {
            return failure(FailureKind::NotFound, None);
        }
        let told = error.told_delay();
        if let Some(reason) = error.terminal_reason().filter(|_| is_overload(status)) {
            // A quota of zero may be raised at any time. A gateway runs for weeks, so it asks once a day.
            let renewal = until_daily_renewal(response.received);
            let delay = match reason {
                TerminalReason::RateLimit => Some(MINUTE),
                // The response's delay belongs to the per-minute quota, so it does not help here.
                TerminalReason::DailyQuota | TerminalReason::NoQuota => Some(renewal),
                TerminalReason::QuotaExhausted => Some(told.unwrap_or(renewal)),
                TerminalReason::NoCapacity => None,
            };
            return Self {
                lacks_capacity: reason == TerminalReason::NoCapacity,
                ..failure(FailureKind::Terminal, delay)
            };
        }
        let header = || {
            let value = response.retry_after.filter(|_| is_overload(status))?;
            parse_retry_after(value, response.received.into()).filter(|delay| !delay.is_zero())
        };
        let per_minute = || (is_overload(status) && error.is_per_minute()).then_some(MINUTE);
        match told.or_else(header).or_else(per_minute) {
            Some(delay) if delay > LONGEST_TRANSIENT_DELAY => failure(FailureKind::Terminal, Some(delay)),
            Some(delay) => failure(FailureKind::Transient, Some(delay)),
            None if is_overload(status) => failure(FailureKind::Transient, None),
            None => failure(FailureKind::Unknown, None),
        }
    }

    /// Whether the next request would probably get this failure too. An overloaded model may answer it, unless it says when it
    /// will.
    #[must_use]
    pub fn lasts(&self) -> bool {
        self.kind != FailureKind::Transient || self.delay.is_some()
    }

    /// Whether a request may be sent again that got this failure with `status`.
    #[must_use]
    pub const fn repeat(&self, status: u16) -> Repeat {
        match (self.kind, status) {
            (FailureKind::Unknown, 400..=499) => Repeat::Pointless,
            (FailureKind::Unknown, _) => Repeat::MayHaveActed,
            _ => Repeat::Safe,
        }
    }
}

const fn is_overload(status: u16) -> bool {
    matches!(status, 429 | 499 | 503)
}

fn until_daily_renewal(now: Timestamp) -> Duration {
    const DAY: i64 = 24 * 3600;
    let since_renewal = (now.as_second() - DAILY_RENEWAL_HOUR_UTC * 3600).rem_euclid(DAY);
    Duration::from_secs((DAY - since_renewal).unsigned_abs())
}

/// Parses `12.5s`, `800ms`, `2m` or a combination such as `1m30s` at the start of `text`.
fn parse_delay(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = None::<Duration>;
    loop {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let (Ok(number), Some(unit)) = (number.parse::<f64>(), seconds_per(unit)) else {
            return total;
        };
        let part = Duration::try_from_secs_f64(number * unit).unwrap_or(LONGEST_DELAY);
        total = Some(total.unwrap_or_default().saturating_add(part).min(LONGEST_DELAY));
        rest = tail;
    }
}

fn seconds_per(unit: &str) -> Option<f64> {
    match unit {
        "ms" => Some(0.001),
        "s" => Some(1.0),
        "m" => Some(60.0),
        "h" => Some(3600.0),
        _ => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TerminalReason {
    DailyQuota,
    QuotaExhausted,
    /// A limit of Cloud Code without a delay.
    RateLimit,
    NoQuota,
    NoCapacity,
}

/// The domains of Cloud Code, which answers accounts that log in.
const CLOUD_CODE: [&str; 3] = [
    "cloudcode-pa.googleapis.com",
    "staging-cloudcode-pa.googleapis.com",
    "autopush-cloudcode-pa.googleapis.com",
];
/// The number of errors that may be nested in each other's messages.
const DEEPEST: usize = 10;
const TYPE: &str = "@type";

/// The `error` object, reduced to the fields used here.
#[derive(Debug, Default)]
struct GoogleError {
    code: Option<u16>,
    message: String,
    details: Vec<Detail>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Detail {
    #[serde(rename = "@type", deserialize_with = "text")]
    type_url: String,
    #[serde(deserialize_with = "text")]
    reason: String,
    #[serde(deserialize_with = "text")]
    domain: String,
    metadata: serde_json::Value,
    #[serde(rename = "retryDelay", deserialize_with = "text")]
    retry_delay: String,
    #[serde(deserialize_with = "violations")]
    violations: Vec<Violation>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Violation {
    #[serde(rename = "quotaId", deserialize_with = "text")]
    quota_id: String,
}

/// A text; empty for a value of another type, so that it does not hide the other fields.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(value.as_str().unwrap_or_default().to_owned())
}

/// The readable ones of a list of violations.
fn violations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Violation>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let values = value.as_array().into_iter().flatten();
    Ok(values.filter_map(|value| Violation::deserialize(value).ok()).collect())
}

impl Detail {
    fn is_of_cloud_code(&self) -> bool {
        CLOUD_CODE.contains(&&*self.domain)
    }
}

/// The error whose JSON is the message of `error`, if it is one, and so on.
fn innermost(mut error: serde_json::Value) -> serde_json::Value {
    for _ in 0..DEEPEST {
        let message = error.get("message").and_then(serde_json::Value::as_str);
        let message = message.filter(|message| message.trim_start().starts_with('{'));
        let message = message.map(|message| message.replace('\u{a0}', "").replace('\n', " "));
        let nested = message.and_then(|message| serde_json::from_str::<serde_json::Value>(&message).ok());
        match nested.and_then(|mut nested| nested.get_mut("error").map(serde_json::Value::take)) {
            Some(nested) if nested.is_object() => error = nested,
            _ => break,
        }
    }
    error
}

/// `detail` with its type under the usual key, which may have blanks around it.
fn with_type(mut detail: serde_json::Value) -> serde_json::Value {
    if let Some(fields) = detail.as_object_mut()
        && let Some(key) = fields.keys().find(|key| key.trim() == TYPE && *key != TYPE).cloned()
        && let Some(value) = fields.remove(&key)
    {
        fields.insert(TYPE.to_owned(), value);
    }
    detail
}

impl GoogleError {
    /// The error in `body`: `{"error": {…}}`, or a list with one such object, as a failed streamed call has it.
    fn parse(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Envelope {
            error: serde_json::Value,
        }
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let envelope = if body.trim_ascii_start().starts_with(b"[") {
            serde_json::from_slice::<Vec<Envelope>>(body).ok()?.into_iter().next()?
        } else {
            serde_json::from_slice(body).ok()?
        };
        Some(Self::from_value(innermost(envelope.error)))
    }

    /// Parses each field separately, so that an unexpected one does not hide the others.
    fn from_value(mut error: serde_json::Value) -> Self {
        let mut take = |key: &str| error.get_mut(key).map(serde_json::Value::take).unwrap_or_default();
        let details = match take("details") {
            serde_json::Value::Array(details) => details,
            _ => Vec::new(),
        };
        Self {
            code: serde_json::from_value(take("code")).ok(),
            message: serde_json::from_value(take("message")).unwrap_or_default(),
            details: details
                .into_iter()
                .filter_map(|detail| serde_json::from_value(with_type(detail)).ok())
                .collect(),
        }
    }

    fn message_or(&self, response: &ErrorResponse<'_>) -> String {
        if self.message.is_empty() {
            format!("the upstream answered {}", response.status)
        } else {
            self.message.clone()
        }
    }

    fn of_type<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Detail> {
        self.details
            .iter()
            .filter(move |detail| detail.type_url.rsplit(['/', '.']).next() == Some(name))
    }

    /// Whether a quota is used up whose id contains one of the `marks`.
    fn names_quota(&self, marks: &[&str]) -> bool {
        self.of_type("QuotaFailure")
            .flat_map(|detail| &detail.violations)
            .any(|violation| marks.iter().any(|mark| violation.quota_id.contains(mark)))
    }

    /// Whether a quota per minute is used up.
    fn is_per_minute(&self) -> bool {
        let limits = self
            .of_type("ErrorInfo")
            .filter_map(|detail| detail.metadata.get("quota_limit")?.as_str());
        self.names_quota(&["PerMinute"]) || limits.into_iter().any(|limit| limit.contains("PerMinute"))
    }

    fn terminal_reason(&self) -> Option<TerminalReason> {
        if self.names_quota(&["PerDay", "Daily"]) {
            return Some(TerminalReason::DailyQuota);
        }
        let is_told = self.told_delay().is_some();
        let by_reason = self
            .of_type("ErrorInfo")
            .find_map(|detail| match detail.reason.as_str() {
                "RATE_LIMIT_EXCEEDED" if !is_told && detail.is_of_cloud_code() => Some(TerminalReason::RateLimit),
                "MODEL_CAPACITY_EXHAUSTED" | "MODEL_CAPACITY_EXCEEDED" => Some(TerminalReason::NoCapacity),
                "QUOTA_EXHAUSTED" | "INSUFFICIENT_G1_CREDITS_BALANCE" => Some(TerminalReason::QuotaExhausted),
                _ => None,
            });
        by_reason.or_else(|| self.reason_in_message())
    }

    fn reason_in_message(&self) -> Option<TerminalReason> {
        let message = self.message.to_ascii_lowercase();
        if says_limit_zero(&message) {
            return Some(TerminalReason::NoQuota);
        }
        let says_so = [
            "exhausted your capacity",
            "capacity exceeded",
            "model_capacity_exhausted",
        ]
        .iter()
        .any(|words| message.contains(words));
        let has_delay = self.told_delay().is_some() || self.is_per_minute();
        (says_so && !has_delay).then_some(TerminalReason::NoCapacity)
    }

    /// The delay in RetryInfo, or else in the message.
    fn told_delay(&self) -> Option<Duration> {
        self.of_type("RetryInfo")
            .find_map(|detail| parse_delay(&detail.retry_delay))
            .or_else(|| delay_in_message(&self.message))
            .filter(|delay| !delay.is_zero())
    }
}

/// Whether `message`, in lower case, states a limit of exactly 0, as in `limit: 0, model: …`.
fn says_limit_zero(message: &str) -> bool {
    message.match_indices("limit:").any(|(at, label)| {
        let Some(rest) = message[at + label.len()..].trim_start().strip_prefix('0') else {
            return false;
        };
        let mut following = rest.chars();
        match following.next() {
            Some(c) if c.is_ascii_digit() => false,
            Some('.') => !following.next().is_some_and(|c| c.is_ascii_digit()),
            _ => true,
        }
    })
}

fn delay_in_message(message: &str) -> Option<Duration> {
    const LABEL: &str = "please retry in ";
    let at = message.to_ascii_lowercase().find(LABEL)?;
    parse_delay(&message[at + LABEL.len()..])
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
