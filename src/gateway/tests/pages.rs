//! Pages in a browser: those of this machine may use the gateway, others may not.

use gem_setup_support::scripted_upstream::UpstreamStandIn;
use hyper::Method;

use super::{GENERATE, Running, prompt};

const PAGE: (&str, &str) = ("origin", "http://localhost:3000");

#[tokio::test]
async fn a_local_page_passes_cors() {
    let gateway = Running::without_engine().await;
    let asks = [
        PAGE,
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type,x-goog-api-key"),
        ("access-control-request-private-network", "true"),
    ];
    for path in [GENERATE, "/v1beta/models/gem-auto:generateContent", "/status"] {
        let got = gateway.send(Method::OPTIONS, path, &asks, "").await;
        assert_eq!(
            (got.status.as_u16(), got.header("access-control-allow-origin")),
            (204, PAGE.1)
        );
        assert_eq!(got.header("access-control-allow-headers"), asks[2].1);
        assert_eq!(got.header("access-control-allow-private-network"), "true");
    }
    let got = gateway.send(Method::POST, GENERATE, &[PAGE], prompt("hi")).await;
    assert_eq!(
        (got.status.as_u16(), got.header("access-control-allow-origin")),
        (200, PAGE.1)
    );
    assert!(gateway.finish().await.is_empty(), "no preflight is a decision");
}

#[tokio::test]
async fn a_preflight_is_refused_like_its_request() {
    let gateway = Running::without_engine().await;
    let method = ("access-control-request-method", "POST");
    let foreign = [("origin", "https://page.example"), method];
    let got = gateway.send(Method::OPTIONS, GENERATE, &foreign, "").await;
    assert_eq!(
        (got.status.as_u16(), got.header("access-control-allow-origin")),
        (403, "")
    );
    let got = gateway.send(Method::OPTIONS, "/elsewhere", &[PAGE, method], "").await;
    assert_eq!(got.status, 404);
}

#[tokio::test]
async fn a_foreign_page_s_image_does_not_reach_the_upstream() {
    let upstream = UpstreamStandIn::replies(vec![(200, "{}")]).await.unwrap();
    let url = format!("http://{}/", upstream.address()).parse().unwrap();
    let gateway = Running::start(|config| config.upstream.url = url).await;
    for site in ["cross-site", "same-site"] {
        let got = gateway
            .send(Method::GET, "/v1beta/models", &[("sec-fetch-site", site)], "")
            .await;
        assert_eq!(got.status, 403, "{site}");
    }
    assert!(upstream.seen().is_empty());
}
