use serde_json::{Value, json};

use super::*;

fn received() -> Timestamp {
    "2026-11-21T02:00:00Z".parse().unwrap()
}

fn read(status: u16, body: &Value) -> ModelFailure {
    ModelFailure::from_response(&ErrorResponse {
        status,
        retry_after: None,
        body: body.to_string().as_bytes(),
        received: received(),
    })
}

fn error(status: u16, message: &str, details: &[Value]) -> ModelFailure {
    read(
        status,
        &json!({"error": {"code": status, "message": message, "status": "X", "details": details}}),
    )
}

fn quota_failure(quota_id: &str) -> Value {
    json!({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaMetric": "m"}, {"quotaId": quota_id}]})
}

fn error_info(reason: &str) -> Value {
    json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "x", "metadata": {}})
}

fn retry_info(delay: &str) -> Value {
    json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
}

/// From [`received`] to 08:00 UTC.
const UNTIL_RENEWAL: Duration = Duration::from_secs(6 * 3600);
const OVERLOADS: [u16; 3] = [429, 499, 503];

#[test]
fn a_404_is_not_found() {
    let failure = error(404, "models/x is not found", &[]);
    assert_eq!(failure.kind, FailureKind::NotFound);
    assert_eq!(failure.message, "models/x is not found");
}

#[test]
fn an_overload_with_a_daily_quota_is_terminal_until_the_quota_is_renewed() {
    for status in OVERLOADS {
        for quota_id in ["GenerateRequestsPerDayPerProjectPerModel-FreeTier", "DailyTokens"] {
            let failure = error(status, "quota", &[retry_info("39s"), quota_failure(quota_id)]);
            assert_eq!(failure.kind, FailureKind::Terminal, "{status} {quota_id}");
            assert!(!failure.lacks_capacity);
            assert_eq!(failure.delay, Some(UNTIL_RENEWAL));
        }
    }
}

#[test]
fn a_daily_quota_of_another_status_is_unknown() {
    assert_eq!(
        error(403, "no", &[quota_failure("RequestsPerDay")]).kind,
        FailureKind::Unknown
    );
}

#[test]
fn a_lack_of_capacity_is_terminal() {
    for status in OVERLOADS {
        for reason in ["MODEL_CAPACITY_EXHAUSTED", "MODEL_CAPACITY_EXCEEDED"] {
            let failure = error(status, "x", &[error_info(reason), retry_info("5s")]);
            assert_eq!(
                (failure.kind, failure.lacks_capacity),
                (FailureKind::Terminal, true),
                "{reason}"
            );
        }
        for message in ["You have exhausted your capacity on this model.", "Capacity exceeded"] {
            let failure = error(status, message, &[]);
            assert_eq!(
                (failure.kind, failure.lacks_capacity),
                (FailureKind::Terminal, true),
                "{message}"
            );
        }
    }
    assert_eq!(error(500, "capacity exceeded", &[]).kind, FailureKind::Unknown);
}

#[test]
fn capacity_in_a_message_counts_less_than_a_delay() {
    let message = "You have exhausted your capacity on this model.";
    let failure = error(429, message, &[retry_info("12s")]);
    assert_eq!(
        (failure.kind, failure.delay, failure.lacks_capacity),
        (FailureKind::Transient, Some(Duration::from_secs(12)), false)
    );
    let failure = error(429, "status: MODEL_CAPACITY_EXHAUSTED", &[]);
    assert_eq!((failure.kind, failure.lacks_capacity), (FailureKind::Terminal, true));
}

#[test]
fn a_rate_limit_of_cloud_code_is_terminal_without_a_delay() {
    let info =
        |domain: &str| json!({"@type": "x/google.rpc.ErrorInfo", "reason": "RATE_LIMIT_EXCEEDED", "domain": domain});
    let ours = info("cloudcode-pa.googleapis.com");
    let kind = |details: &[Value]| error(429, "x", details).kind;
    assert_eq!(kind(std::slice::from_ref(&ours)), FailureKind::Terminal);
    assert_eq!(kind(&[ours, retry_info("5s")]), FailureKind::Transient);
    assert_eq!(kind(&[info("googleapis.com")]), FailureKind::Transient);
}

#[test]
fn a_limit_per_minute_in_the_metadata_waits_a_minute() {
    let mut info = error_info("RATE_LIMIT_EXCEEDED");
    info["metadata"] = json!({"quota_limit": "GenerateRequestsPerMinute"});
    let failure = error(429, "x", &[info]);
    assert_eq!(
        (failure.kind, failure.delay),
        (FailureKind::Transient, Some(Duration::from_secs(60)))
    );
}

#[test]
fn an_error_in_the_message_of_another_is_read() {
    let quota = json!({" @type": "x/google.rpc.QuotaFailure", "violations": [{"quotaId": "RequestsPerDay"}]});
    let inner = json!({"error": {"code": 429, "message": "day", "details": [quota]}});
    let body = json!({"error": {"code": 429, "message": serde_json::to_string_pretty(&inner).unwrap()}});
    let failure = read(429, &body);
    assert_eq!((failure.kind, &*failure.message), (FailureKind::Terminal, "day"));
}

#[test]
fn a_mark_before_the_body_hides_no_error() {
    let failure = ModelFailure::from_response(&ErrorResponse {
        status: 429,
        retry_after: None,
        body: "\u{feff}{\"error\": {\"code\": 429, \"message\": \"limit: 0\"}}".as_bytes(),
        received: received(),
    });
    assert_eq!(failure.kind, FailureKind::Terminal);
}

#[test]
fn missing_credits_are_an_exhausted_quota() {
    let failure = error(429, "x", &[error_info("INSUFFICIENT_G1_CREDITS_BALANCE")]);
    assert_eq!(
        (failure.kind, failure.delay),
        (FailureKind::Terminal, Some(UNTIL_RENEWAL))
    );
    assert!(!failure.lacks_capacity);
}

#[test]
fn a_quota_per_minute_waits_a_minute() {
    let minute = quota_failure("GenerateRequestsPerMinutePerProjectPerModel-FreeTier");
    let failure = error(429, "x", std::slice::from_ref(&minute));
    assert_eq!(
        (failure.kind, failure.delay),
        (FailureKind::Transient, Some(Duration::from_secs(60)))
    );
    let told = error(429, "x", &[minute.clone(), retry_info("7s")]);
    assert_eq!(told.delay, Some(Duration::from_secs(7)));
    assert_eq!(error(403, "x", &[minute]).kind, FailureKind::Unknown);
}

#[test]
fn an_overload_with_an_exhausted_quota_is_terminal_for_as_long_as_told_or_until_quotas_are_renewed() {
    for status in OVERLOADS {
        let untold = error(status, "x", &[error_info("QUOTA_EXHAUSTED")]);
        assert_eq!(
            (untold.kind, untold.delay),
            (FailureKind::Terminal, Some(UNTIL_RENEWAL))
        );
        let failure = error(status, "x", &[error_info("QUOTA_EXHAUSTED"), retry_info("100s")]);
        assert_eq!((failure.kind, failure.lacks_capacity), (FailureKind::Terminal, false));
        assert_eq!(failure.delay, Some(Duration::from_secs(100)));
    }
}

#[test]
fn a_limit_of_zero_is_terminal_and_only_of_zero() {
    for message in [
        "limit: 0",
        "Quota exceeded, limit: 0, model: x. Please retry in 3s",
        "LIMIT:0.",
    ] {
        let failure = error(429, message, &[]);
        assert_eq!(
            (failure.kind, failure.delay),
            (FailureKind::Terminal, Some(UNTIL_RENEWAL)),
            "{message}"
        );
    }
    for message in ["limit: 05", "limit: 0.5", "limit: 10", "limit: 20, limit:"] {
        assert_eq!(error(429, message, &[]).kind, FailureKind::Transient, "{message}");
    }
}

#[test]
fn a_retry_info_delay_of_up_to_300_s_is_transient_with_that_delay() {
    for (told, delay) in [
        ("7s", Duration::from_secs(7)),
        ("0.250s", Duration::from_millis(250)),
        ("900ms", Duration::from_millis(900)),
        ("2m", Duration::from_secs(120)),
        ("300s", Duration::from_secs(300)),
    ] {
        let failure = error(429, "x", &[quota_failure("RequestsPerMinute"), retry_info(told)]);
        assert_eq!(
            (failure.kind, failure.delay),
            (FailureKind::Transient, Some(delay)),
            "{told}"
        );
    }
}

#[test]
fn a_retry_info_delay_above_300_s_is_terminal() {
    for told in ["300.1s", "6m", "1h0m5s", "99999999999999999999999s"] {
        assert_eq!(
            error(429, "x", &[retry_info(told)]).kind,
            FailureKind::Terminal,
            "{told}"
        );
    }
}

#[test]
fn please_retry_in_the_message_is_a_delay() {
    for (message, delay) in [
        (
            "You exceeded your quota. Please retry in 12.5s.",
            Duration::from_millis(12_500),
        ),
        ("please retry in 350ms", Duration::from_millis(350)),
        ("Please retry in 1m30.5s!", Duration::from_millis(90_500)),
    ] {
        let failure = error(429, message, &[]);
        assert_eq!(
            (failure.kind, failure.delay),
            (FailureKind::Transient, Some(delay)),
            "{message}"
        );
    }
    assert_eq!(error(429, "Please retry in 301s", &[]).kind, FailureKind::Terminal);
    assert_eq!(error(429, "Please retry in a while", &[]).delay, None);
}

#[test]
fn an_unexpected_field_does_not_hide_the_others() {
    let quota = json!({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "reason": null, "violations":
        [{"quotaId": null}, 7, {"quotaId": "GenerateRequestsPerDay"}]});
    for code in [json!("rate_limit_exceeded"), json!("429"), json!(null), json!(4e9)] {
        let body = json!({"error": {"code": code, "message": "used up", "details": [1, quota]}});
        let failure = read(429, &body);
        assert_eq!(
            (failure.kind, &*failure.message),
            (FailureKind::Terminal, "used up"),
            "{code}"
        );
    }
}

#[test]
fn retry_info_goes_before_the_message_and_the_message_before_the_header() {
    let body = |details: Value| {
        json!({"error": {"code": 429, "message": "Please retry in 20s", "details": details}}).to_string()
    };
    let delay = |body: &str| {
        let response = ErrorResponse {
            status: 429,
            retry_after: Some("30"),
            body: body.as_bytes(),
            received: received(),
        };
        ModelFailure::from_response(&response).delay.unwrap().as_secs()
    };
    assert_eq!(delay(&body(json!([retry_info("10s")]))), 10);
    assert_eq!(delay(&body(json!([]))), 20);
    assert_eq!(delay("busy"), 30);
}

#[test]
fn a_header_may_name_a_date() {
    let response = ErrorResponse {
        status: 503,
        retry_after: Some("Sat, 21 Nov 2026 02:01:00 GMT"),
        body: b"busy",
        received: received(),
    };
    let delay = ModelFailure::from_response(&response).delay;
    assert_eq!(delay, Some(Duration::from_secs(60)));
}

#[test]
fn a_header_that_names_no_delay_is_none() {
    for retry_after in ["0", "Sat, 21 Nov 2026 01:00:00 GMT"] {
        let response = ErrorResponse {
            status: 503,
            retry_after: Some(retry_after),
            body: b"busy",
            received: received(),
        };
        let failure = ModelFailure::from_response(&response);
        assert_eq!(
            (failure.kind, failure.delay),
            (FailureKind::Transient, None),
            "{retry_after}"
        );
    }
}

#[test]
fn an_overload_without_more_is_transient() {
    for status in OVERLOADS {
        assert_eq!(error(status, "busy", &[]).kind, FailureKind::Transient);
        let html = ErrorResponse {
            status,
            retry_after: None,
            body: b"<html>",
            received: received(),
        };
        let failure = ModelFailure::from_response(&html);
        assert_eq!((failure.kind, failure.delay), (FailureKind::Transient, None));
        assert!(failure.message.contains(&status.to_string()));
    }
}

#[test]
fn anything_else_is_unknown() {
    for status in [400, 401, 403, 418, 500, 502, 504] {
        assert_eq!(error(status, "x", &[]).kind, FailureKind::Unknown, "{status}");
    }
}

#[test]
fn the_errors_own_code_goes_before_the_http_status() {
    assert_eq!(
        read(500, &json!({"error": {"code": 429, "message": "x"}})).kind,
        FailureKind::Transient
    );
}

#[test]
fn an_error_in_a_list_is_read_too() {
    assert_eq!(
        read(200, &json!([{"error": {"code": 503, "message": "x"}}])).kind,
        FailureKind::Transient
    );
}

#[test]
fn a_detail_of_unexpected_form_does_not_hide_the_others() {
    let details = [
        json!("text"),
        json!({"@type": 7}),
        json!({"@type": "x/google.rpc.QuotaFailure", "violations": 3}),
        retry_info("9s"),
    ];
    assert_eq!(error(429, "x", &details).delay, Some(Duration::from_secs(9)));
}

#[test]
fn what_may_be_sent_again_is_a_table() {
    for (status, expected) in [
        (429, Repeat::Safe),
        (499, Repeat::Safe),
        (503, Repeat::Safe),
        (404, Repeat::Safe),
        (400, Repeat::Pointless),
        (401, Repeat::Pointless),
        (403, Repeat::Pointless),
        (500, Repeat::MayHaveActed),
        (502, Repeat::MayHaveActed),
        (504, Repeat::MayHaveActed),
    ] {
        assert_eq!(error(status, "x", &[]).repeat(status), expected, "{status}");
    }
}
