//! Mirrors, proxies, certificates and logins.

use std::time::Duration;

use gem_setup_support::fault::{Authority, Fault, FaultServer, Proxy};
use url::Url;

use super::{Scene, content, patience};
use crate::environment::Environment;
use crate::error::{Failure, Kind};
use crate::fetch::{Error, Fetched, Fetcher};
use crate::net::{Connector, Network, Trust};
use crate::progress::Silent;

const ORIGIN: &str = "https://github.com/owner/repo/file.bin";

fn environment(variables: &[(&str, &str)], home: &std::path::Path) -> Environment {
    Environment::of(variables, home, home)
}

fn network(scene: &Scene, variables: &[(&str, &str)]) -> Network {
    Network::from_environment(&environment(variables, scene.directory.path()), None).unwrap()
}

async fn fetch_over(scene: &Scene, variables: &[(&str, &str)]) -> Result<Fetched, Error> {
    let fetcher = scene.fetcher_over(network(scene, variables));
    fetcher.fetch(&scene.request(), &scene.heard).await
}

fn tls_scene(authority: &Authority) -> Scene {
    let content = content(100_000);
    Scene::with_server(content.clone(), FaultServer::start_tls(content, authority))
}

async fn fetch_from(scene: &Scene, mirrors: &[&str], mirror_only: bool) -> Result<Fetched, Error> {
    let mirrors = mirrors.iter().map(|url| url.parse().unwrap()).collect();
    let network = network(scene, &[]).with_patience(patience());
    let fetcher = Fetcher::new(network, scene.downloads(), mirrors, mirror_only).unwrap();
    let mut request = scene.request();
    request.url = ORIGIN.parse().unwrap();
    fetcher.fetch(&request, &scene.heard).await
}

#[test]
fn a_mirror_replaces_only_github_and_the_hub() {
    let sources = |mirrors: &[&str], mirror_only, url: &str| -> Vec<String> {
        let mirrors = mirrors.iter().map(|m| m.parse().unwrap()).collect();
        let fetcher = Fetcher::new(Network::default(), "/x".into(), mirrors, mirror_only).unwrap();
        fetcher
            .sources(&url.parse().unwrap())
            .iter()
            .map(Url::to_string)
            .collect()
    };
    let mirrors = ["https://one.corp/gh/", "file:///srv/mirror"];
    let expected = [
        "https://one.corp/gh/owner/repo/file.bin",
        "file:///srv/mirror/owner/repo/file.bin",
        ORIGIN,
    ];
    assert_eq!(sources(&mirrors, false, ORIGIN), expected);
    assert_eq!(sources(&mirrors, true, ORIGIN), expected[..2]);
    assert_eq!(sources(&[], false, ORIGIN), [ORIGIN]);
    for other in [
        "https://example.com/x",
        "https://github.com.evil.com/x",
        "https://api.github.com/x",
    ] {
        assert_eq!(sources(&mirrors, true, other), [other]);
    }
    // Mirrors on disk alone have everything.
    for other in ["https://example.com/x", "http://127.0.0.1:80/x"] {
        assert_eq!(sources(&mirrors[1..], true, other), ["file:///srv/mirror/x"]);
    }
    assert_eq!(
        sources(&mirrors[1..], true, "file:///elsewhere/x"),
        ["file:///elsewhere/x"]
    );
}

#[tokio::test]
async fn mirrors_are_asked_in_order_and_each_failure_is_reported() {
    let scene = Scene::new(1000);
    let gone = FaultServer::start("");
    gone.always(Fault::Refuse(404, None));
    let fetched = fetch_from(&scene, &[&gone.url(), &format!("{}/deep/", scene.server.url())], true).await;
    fetched.unwrap();
    scene.assert_complete();
    assert_eq!(gone.asked().len(), 1);
    assert_eq!(scene.server.asked()[0].target, "/deep/owner/repo/file.bin");

    scene.server.always(Fault::Refuse(403, None));
    let failure = Failure::from(
        fetch_from(&scene, &[&gone.url(), &scene.server.url()], true)
            .await
            .unwrap_err(),
    );
    assert_eq!(failure.kind, Kind::Download);
    assert!(
        failure.message.contains("404") && failure.message.contains("403"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_bundle_on_disk_needs_no_network() {
    let scene = Scene::new(1_000_000);
    let bundle = scene.directory.path().join("bundle");
    std::fs::create_dir_all(bundle.join("owner/repo")).unwrap();
    std::fs::write(bundle.join("owner/repo/file.bin"), &scene.content).unwrap();
    let mirror = Url::from_directory_path(&bundle).unwrap();
    fetch_from(&scene, &[mirror.as_str()], true).await.unwrap();
    scene.assert_complete();
    assert!(scene.server.asked().is_empty());

    std::fs::remove_file(scene.place()).unwrap();
    std::fs::write(bundle.join("owner/repo/file.bin"), "something else").unwrap();
    let error = fetch_from(&scene, &[mirror.as_str()], true).await.unwrap_err();
    assert!(matches!(error, Error::Hash { .. }), "{error}");
    std::fs::remove_file(bundle.join("owner/repo/file.bin")).unwrap();
    let failure = Failure::from(fetch_from(&scene, &[mirror.as_str()], true).await.unwrap_err());
    assert_eq!(failure.kind, Kind::Download);
    assert!(failure.message.contains("/bundle/owner/repo/file.bin"), "{failure}");
    scene.assert_absent();
}

/// A mirror on disk that serves `content`.
fn mirror_on_disk(scene: &Scene, name: &str, content: &[u8]) -> String {
    let directory = scene.directory.path().join(name);
    std::fs::create_dir_all(directory.join("owner/repo")).unwrap();
    std::fs::write(directory.join("owner/repo/file.bin"), content).unwrap();
    Url::from_directory_path(&directory).unwrap().into()
}

#[tokio::test]
async fn a_mirror_with_wrong_bytes_or_size_is_passed_over() {
    let scene = Scene::new(100_000);
    let mut corrupt = scene.content.to_vec();
    corrupt[70_000] ^= 1;
    let mirrors = [
        mirror_on_disk(&scene, "changed", &corrupt),
        mirror_on_disk(&scene, "login-page", b"<html>please sign in</html>"),
        mirror_on_disk(&scene, "right", &scene.content),
    ];
    let mirrors = mirrors.each_ref().map(String::as_str);
    fetch_from(&scene, &mirrors, true).await.unwrap();
    scene.assert_complete();
    let notes = scene.heard.notes();
    assert!(
        notes.contains("changed/owner/repo/file.bin`: expected sha256"),
        "{notes}"
    );
    assert!(notes.contains("login-page/owner/repo/file.bin`: expected"), "{notes}");

    let error = fetch_from(&scene, &mirrors[..2], true).await.unwrap_err();
    assert_eq!(Failure::from(error).kind, Kind::Verification);
    let missing = Url::from_directory_path(scene.directory.path().join("missing")).unwrap();
    for wrong in &mirrors[..2] {
        let error = fetch_from(&scene, &[wrong, missing.as_str()], true).await.unwrap_err();
        assert_eq!(Failure::from(error).kind, Kind::Verification);
    }
}

#[tokio::test]
async fn after_bytes_of_two_servers_the_second_delivers_the_whole_file() {
    let scene = Scene::new(1_000_000);
    let mut corrupt = scene.content.to_vec();
    corrupt[1000] ^= 1;
    let first = FaultServer::start(corrupt);
    first.script([Fault::CloseAt(400_000)]);
    first.always(Fault::Refuse(503, None));
    let second = FaultServer::start(scene.content.clone());
    let mirrors = [first.url(), second.url()];
    fetch_from(&scene, &mirrors.each_ref().map(String::as_str), true)
        .await
        .unwrap();
    scene.assert_complete();
}

#[test]
fn mirror_only_without_a_mirror_is_refused() {
    let error = Fetcher::new(Network::default(), "/x".into(), Vec::new(), true).unwrap_err();
    assert!(matches!(error, Error::NoMirror));
}

#[tokio::test]
async fn plain_http_goes_through_an_http_proxy_with_and_without_login() {
    for login in [None, Some(("ann", "s3cret"))] {
        let (scene, proxy) = (Scene::new(1_000_000), Proxy::http(login));
        fetch_over(&scene, &[("HTTP_PROXY", &proxy.url())]).await.unwrap();
        scene.assert_complete();
        assert_eq!(proxy.passed(), [format!("GET {}", scene.url())]);
    }
}

#[tokio::test]
async fn https_goes_through_a_tunnel_with_and_without_login() {
    let authority = Authority::new();
    for login in [None, Some(("ann", "s3cret"))] {
        let (scene, proxy) = (tls_scene(&authority), Proxy::http(login));
        let pem = scene.directory.path().join("ca.pem");
        std::fs::write(&pem, authority.pem()).unwrap();
        let variables = [("https_proxy", &*proxy.url()), ("SSL_CERT_FILE", pem.to_str().unwrap())];
        fetch_over(&scene, &variables).await.unwrap();
        scene.assert_complete();
        assert_eq!(proxy.passed(), [format!("CONNECT {}", scene.server.address())]);
    }
}

#[tokio::test]
async fn socks_proxies_serve_with_and_without_login() {
    for login in [None, Some(("ann", "s3cret"))] {
        let (scene, proxy) = (Scene::new(100_000), Proxy::socks5(login));
        fetch_over(&scene, &[("ALL_PROXY", &proxy.url())]).await.unwrap();
        scene.assert_complete();
        assert_eq!(proxy.passed(), [format!("SOCKS {}", scene.server.address())]);
    }
}

#[tokio::test]
async fn no_proxy_bypasses_the_proxy() {
    let (scene, proxy) = (Scene::new(1000), Proxy::http(None));
    let variables = [("HTTP_PROXY", &*proxy.url()), ("NO_PROXY", "127.0.0.0/8")];
    fetch_over(&scene, &variables).await.unwrap();
    scene.assert_complete();
    assert!(proxy.passed().is_empty());
}

#[tokio::test]
async fn a_proxys_refused_login_is_final_and_not_shown() {
    let authority = Authority::new();
    let proxies = [
        Proxy::http(Some(("ann", "right"))),
        Proxy::socks5(Some(("ann", "right"))),
    ];
    for (scene, variable, proxy) in [
        (Scene::new(1000), "HTTP_PROXY", &proxies[0]),
        (tls_scene(&authority), "HTTPS_PROXY", &proxies[0]),
        (Scene::new(1000), "ALL_PROXY", &proxies[1]),
    ] {
        let wrong = proxy.url().replace("right", "s3cret");
        let failure = Failure::from(fetch_over(&scene, &[(variable, &wrong)]).await.unwrap_err());
        assert_eq!(failure.kind, Kind::Download);
        let told = ["the proxy refused", &proxy.url().replace("ann:right", "***"), variable];
        assert!(told.iter().all(|part| failure.message.contains(part)), "{failure}");
        assert!(!format!("{failure} {}", scene.heard.notes()).contains("s3cret"));
        assert_eq!(scene.heard.notes(), "");
        assert!(failure.hint.unwrap().contains("user:password@host"));
        scene.assert_absent();
    }
}

#[tokio::test]
async fn a_proxys_refusal_is_reported_and_retried_if_transient() {
    let authority = Authority::new();
    for (status, told, tries) in [
        (403, "it answered 403 Forbidden", 1),
        (401, "the proxy refused the login", 1),
        (503, "it answered 503 Service Unavailable", 4),
    ] {
        let (scene, proxy) = (tls_scene(&authority), Proxy::refusing(status));
        let url = proxy.url().replace("://", "://ann:s3cret@");
        let failure = Failure::from(fetch_over(&scene, &[("HTTPS_PROXY", &url)]).await.unwrap_err());
        assert_eq!(failure.kind, Kind::Download);
        let parts = [told, &proxy.url().replace("://", "://***@"), "HTTPS_PROXY"];
        assert!(parts.iter().all(|part| failure.message.contains(part)), "{failure}");
        assert!(!failure.message.contains("s3cret"), "{failure}");
        assert_eq!(proxy.passed().len(), tries, "{:?}", proxy.passed());
    }
}

#[tokio::test]
async fn a_private_authority_is_trusted_only_when_named() {
    let authority = Authority::new();
    let scene = tls_scene(&authority);
    let failure = scene.failure().await;
    assert_eq!(failure.kind, Kind::Download);
    assert!(failure.message.contains("not trusted"), "{failure}");
    assert!(failure.hint.unwrap().contains("--ca-cert"));
    assert_eq!(scene.heard.notes(), "", "retried in vain");

    let pem = scene.directory.path().join("ca.pem");
    std::fs::write(&pem, authority.pem()).unwrap();
    let home = environment(&[], scene.directory.path());
    let network = Network::from_environment(&home, Some(pem)).unwrap();
    scene
        .fetcher_over(network)
        .fetch(&scene.request(), &Silent)
        .await
        .unwrap();
    scene.assert_complete();
}

#[tokio::test]
async fn a_server_without_tls_is_not_reported_as_untrusted() {
    let scene = Scene::new(1000);
    let mut request = scene.request();
    request.url.set_scheme("https").unwrap();
    let failure = Failure::from(scene.fetcher().fetch(&request, &Silent).await.unwrap_err());
    assert_eq!(failure.kind, Kind::Download);
    assert!(!failure.message.contains("certificate"), "{failure}");
}

#[tokio::test]
async fn a_redirect_from_https_to_http_is_refused_even_on_this_machine() {
    let authority = Authority::new();
    let (scene, plain) = (tls_scene(&authority), Scene::new(1000));
    scene.server.always(Fault::Redirect(plain.url().to_string()));
    let pem = scene.directory.path().join("ca.pem");
    std::fs::write(&pem, authority.pem()).unwrap();
    let error = fetch_over(&scene, &[("SSL_CERT_FILE", pem.to_str().unwrap())])
        .await
        .unwrap_err();
    assert!(error.to_string().contains("not https"), "{error}");
    assert!(plain.server.asked().is_empty());
}

#[test]
fn an_unusable_certificate_file_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    for path in [empty, directory.path().join("missing.pem")] {
        let environment = environment(&[], directory.path());
        let network = Network::from_environment(&environment, Some(path.clone())).unwrap();
        let failure = Failure::from(Connector::new(&network, Duration::ZERO).load_trust().unwrap_err());
        assert_eq!(failure.kind, Kind::Usage);
        assert!(failure.message.contains(&path.display().to_string()), "{failure}");
    }
}

#[tokio::test]
async fn a_netrc_login_is_sent_only_to_the_mirror() {
    let (scene, elsewhere) = (Scene::new(1000), Scene::new(1000));
    std::fs::write(
        scene.directory.path().join(".netrc"),
        "machine 127.0.0.1 login ann password s3cret",
    )
    .unwrap();
    scene.server.script([Fault::Redirect(elsewhere.url().to_string())]);
    fetch_from(&scene, &[&scene.server.url()], true).await.unwrap();
    scene.assert_complete();
    let login = "Basic YW5uOnMzY3JldA==";
    assert_eq!(scene.server.asked()[0].header("authorization"), Some(login));
    assert_eq!(elsewhere.server.asked()[0].header("authorization"), None);

    // An origin that is not a mirror does not get it either.
    scene
        .fetcher_over(network(&scene, &[]))
        .fetch(&scene.request(), &Silent)
        .await
        .unwrap();
    assert_eq!(scene.server.asked()[1].header("authorization"), None);
}

#[tokio::test]
async fn a_login_in_the_mirrors_url_is_sent_and_not_shown() {
    let scene = Scene::new(1000);
    scene.server.always(Fault::Refuse(403, None));
    let mirror = scene.server.url().replace("http://", "http://ann:s3cret@");
    let failure = Failure::from(fetch_from(&scene, &[&mirror], true).await.unwrap_err());
    assert_eq!(
        scene.server.asked()[0].header("authorization"),
        Some("Basic YW5uOnMzY3JldA==")
    );
    assert!(!failure.message.contains("s3cret"), "{failure}");
    assert!(failure.hint.unwrap().contains(".netrc"));
}

#[tokio::test]
async fn a_route_names_proxy_and_trust_and_a_probe_asks() {
    let scene = Scene::new(1234);
    let variables = [
        ("https_proxy", "http://ann:s3cret@proxy:3128"),
        ("SSL_CERT_FILE", "ca.pem"),
    ];
    let network = network(&scene, &variables);
    let route = network.route_of(&ORIGIN.parse().unwrap());
    assert_eq!(
        route.trust,
        Some(Trust::Only(scene.directory.path().join("ca.pem"), None))
    );
    assert_eq!(route.proxy.as_ref().unwrap().url.to_string(), "http://***@proxy:3128/");
    assert_eq!(route.proxy.unwrap().variable, "https_proxy");
    let plain = network.route_of(&scene.url());
    assert_eq!((plain.proxy, plain.trust), (None, None));

    assert_eq!(scene.fetcher().probe(&scene.url()).await.unwrap(), Some(1234));
    assert_eq!(scene.server.asked()[0].method, "HEAD");
    scene.server.always(Fault::Refuse(404, None));
    assert!(
        scene
            .fetcher()
            .probe(&scene.url())
            .await
            .unwrap_err()
            .to_string()
            .contains("404")
    );
}
