//! The gateway's ways to the upstream: TLS, and the proxy that the environment names.

use std::fs;

use gem_setup_support::fault::{Authority, Proxy};
use gem_setup_support::upstream::Upstream;
use tempfile::TempDir;

use super::harness::Home;
use super::upstream::{Scene, text};

const MODEL: &str = "my-model";
const STREAM: &str = "/v1beta/models/my-model:streamGenerateContent?alt=sse";

/// An upstream with a certificate of a private authority, which is in a file.
struct Private {
    upstream: Upstream,
    ca_cert: String,
    _directory: TempDir,
}

impl Private {
    fn new() -> Self {
        let authority = Authority::new();
        let directory = tempfile::tempdir().unwrap();
        let ca_cert = directory.path().join("ca.pem");
        fs::write(&ca_cert, authority.pem()).unwrap();
        Self {
            upstream: Upstream::start_tls(&authority),
            ca_cert: ca_cert.to_str().unwrap().to_owned(),
            _directory: directory,
        }
    }

    /// `HOST:PORT`, as in a request to a proxy.
    fn address(&self) -> String {
        self.upstream.url().trim_start_matches("https://").to_owned()
    }
}

/// Complete and streamed replies arrive, and the upstream got both requests with their text.
#[track_caller]
fn assert_answers(scene: &Scene) {
    let request = "what is the time?";
    let answer = scene.generate(MODEL, request);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(text(&answer), "Hello from my-model");
    let streamed = scene.ask(STREAM, request);
    assert_eq!(streamed.status, 200, "{streamed:?}");
    let events = String::from_utf8(streamed.body.to_vec()).unwrap();
    assert!(
        events.contains("Hello ") && events.contains("from my-model"),
        "{events}"
    );
    let seen = scene.upstream.seen();
    assert_eq!(seen.len(), 2);
    for one in seen {
        assert!(String::from_utf8_lossy(&one.body).contains(request), "{one:?}");
    }
}

#[test]
fn an_upstream_with_a_private_authority_is_reached_by_its_certificate() {
    let Private {
        upstream,
        ca_cert,
        _directory,
    } = Private::new();
    assert_answers(&Scene::before(upstream, &["--ca-cert", &ca_cert], &[]));
}

#[test]
fn the_server_uses_the_certificate_given_to_install() {
    let private = Private::new();
    let home = Home::new();
    home.install(&["--no-start", "--ca-cert", &private.ca_cert]).ok();
    fs::remove_file(&private.ca_cert).unwrap();
    assert_answers(&Scene::on(home, private.upstream, &[], &[]));
}

#[test]
fn an_untrusted_upstream_gets_no_request() {
    let private = Private::new();
    let scene = Scene::before(private.upstream, &[], &[]);
    let answer = scene.generate(MODEL, "what is the time?");
    assert_eq!(answer.status, 502, "{answer:?}");
    let said = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(said.contains("certificate"), "{said}");
    assert!(scene.upstream.seen().is_empty());
}

#[test]
fn an_https_upstream_is_reached_through_a_tunnel_of_the_proxy() {
    for login in [None, Some(("ann", "s3cret"))] {
        let (private, proxy) = (Private::new(), Proxy::http(login));
        let tunnel = format!("CONNECT {}", private.address());
        let scene = Scene::before(
            private.upstream,
            &["--ca-cert", &private.ca_cert],
            &[("HTTPS_PROXY", &proxy.url())],
        );
        assert_answers(&scene);
        let passed = proxy.passed();
        assert!(
            !passed.is_empty() && passed.iter().all(|one| *one == tunnel),
            "{passed:?}"
        );
    }
}

#[test]
fn a_plain_upstream_is_reached_through_the_proxy() {
    let proxy = Proxy::http(None);
    let scene = Scene::before(Upstream::start(), &[], &[("HTTP_PROXY", &proxy.url())]);
    assert_answers(&scene);
    let asked = format!("POST {}{STREAM}", scene.upstream.url());
    assert!(proxy.passed().contains(&asked), "{:?}", proxy.passed());
}

#[test]
fn an_upstream_in_no_proxy_is_reached_directly() {
    let (private, proxy) = (Private::new(), Proxy::refusing(403));
    let scene = Scene::before(
        private.upstream,
        &["--ca-cert", &private.ca_cert],
        &[("HTTPS_PROXY", &proxy.url()), ("NO_PROXY", "127.0.0.1")],
    );
    assert_answers(&scene);
    assert_eq!(proxy.passed(), [""; 0]);
}

#[test]
fn a_refusing_proxy_gives_the_client_an_error() {
    let (private, proxy) = (Private::new(), Proxy::refusing(403));
    let scene = Scene::before(
        private.upstream,
        &["--ca-cert", &private.ca_cert],
        &[("HTTPS_PROXY", &proxy.url())],
    );
    let answer = scene.generate(MODEL, "what is the time?");
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(scene.upstream.seen().is_empty());
    assert!(!proxy.passed().is_empty());
}
