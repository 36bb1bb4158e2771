//! One test for each way in which a server can fail.

use std::time::Duration;

use gem_setup_support::fault::{Fault, FaultServer};

use super::{STALL, Scene, content};
use crate::error::{Failure, Kind};
use crate::fetch::Fetcher;
use crate::net::Network;
use crate::progress::Silent;
use crate::sha256::Sha256;

const LENGTH: usize = 3_000_000;

#[tokio::test]
async fn a_healthy_server_is_asked_once() {
    let scene = Scene::new(LENGTH);
    let fetched = scene.fetch().await.unwrap();
    scene.assert_complete();
    assert_eq!(
        (fetched.size, fetched.transferred, fetched.resumed),
        (LENGTH as u64, LENGTH as u64, 0)
    );
    let asked = scene.server.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("accept-encoding"), Some("identity"));
    assert!(asked[0].header("user-agent").unwrap().starts_with("gem-setup/"));
    assert_eq!(scene.heard.notes(), "");
    assert_eq!(*scene.heard.most.lock().unwrap(), LENGTH as u64);
}

#[tokio::test]
async fn an_empty_file_is_a_file() {
    let scene = Scene::new(0);
    scene.fetch().await.unwrap();
    scene.assert_complete();
}

#[tokio::test]
async fn a_reset_in_the_middle_is_continued_with_the_same_version() {
    let scene = Scene::new(LENGTH);
    scene
        .server
        .script([Fault::ResetAt(1_000_000), Fault::ResetAt(500_000)]);
    scene.fetch().await.unwrap();
    scene.assert_complete();
    let asked = scene.server.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked[1..].iter().all(|a| a.header("if-range") == Some("\"version-1\"")));
    // The last bytes before a reset may be lost with the connection.
    let start = asked[2]
        .header("range")
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    let start: u64 = start.unwrap().parse().unwrap();
    assert!((500_000..=1_500_000).contains(&start), "{start}");
    assert!(scene.server.served() >= LENGTH as u64);
}

#[tokio::test]
async fn a_stall_is_given_up_after_the_idle_limit_and_continued() {
    let scene = Scene::new(LENGTH);
    scene.server.script([Fault::StallAt(1_000_000)]);
    scene.fetch_impatiently().await.unwrap();
    scene.assert_complete();
    assert!(
        scene.heard.notes().contains("nothing arrived for 2 s"),
        "{}",
        scene.heard.notes()
    );
    assert_eq!(scene.server.asked()[1].header("range"), Some("bytes=1000000-"));
}

#[tokio::test]
async fn a_server_that_never_answers_is_a_failed_download() {
    let scene = Scene::new(LENGTH);
    scene.server.always(Fault::StallAt(0));
    let failure = Failure::from(scene.fetch_impatiently().await.unwrap_err());
    assert_eq!(failure.kind, Kind::Download);
    assert!(failure.message.contains("nothing arrived"), "{failure}");
    scene.assert_absent();
}

#[tokio::test]
async fn a_slow_trickle_is_waited_for() {
    let scene = Scene::new(3_000);
    scene.server.always(Fault::Trickle(150, STALL / 15));
    scene.fetch_impatiently().await.unwrap();
    scene.assert_complete();
    assert_eq!(scene.server.asked().len(), 1);
}

#[tokio::test]
async fn a_short_body_is_continued() {
    let scene = Scene::new(LENGTH);
    scene.server.script([Fault::CloseAt(2_999_999)]);
    scene.fetch().await.unwrap();
    scene.assert_complete();
    assert_eq!(scene.server.asked()[1].header("range"), Some("bytes=2999999-"));
}

#[tokio::test]
async fn without_any_byte_nothing_is_said_to_continue() {
    let scene = Scene::new(LENGTH);
    scene.server.for_ranges(Fault::CloseAt(0));
    scene.server.script(vec![Fault::CloseAt(0); 20]);
    let hint = scene.failure().await.hint.unwrap();
    assert!(
        hint.contains("run the same command again") && !hint.contains("continues"),
        "{hint}"
    );
}

#[tokio::test]
async fn a_body_that_always_ends_at_the_same_byte_is_a_failed_download() {
    let scene = Scene::new(LENGTH);
    scene.server.for_ranges(Fault::CloseAt(0));
    scene.server.script([Fault::CloseAt(1_000_000)]);
    let failure = scene.failure().await;
    assert_eq!(failure.kind, Kind::Download);
    assert!(failure.message.contains("file.bin") && failure.message.contains(&scene.server.url()));
    assert!(failure.hint.unwrap().contains("continues where it stopped"));
    scene.assert_absent();
}

#[tokio::test]
async fn a_server_that_always_starts_over_is_given_up() {
    let scene = Scene::new(LENGTH);
    scene.server.publish(scene.content.clone(), Vec::new());
    scene.server.always(Fault::CloseAt(1_000_000));
    assert_eq!(scene.failure().await.kind, Kind::Download);
    assert!(scene.server.asked().len() <= 6, "{}", scene.server.asked().len());
    scene.assert_absent();
}

#[tokio::test]
async fn a_declared_length_that_is_too_large_is_a_failed_download() {
    let scene = Scene::new(LENGTH);
    scene.server.always(Fault::DeclareLength(LENGTH as u64 + 10));
    let failure = scene.failure().await;
    assert_eq!(failure.kind, Kind::Download);
    scene.assert_absent();
}

#[tokio::test]
async fn a_declared_length_that_is_too_small_fails_verification() {
    let scene = Scene::new(LENGTH);
    scene.server.always(Fault::DeclareLength(1000));
    assert_eq!(scene.failure().await.kind, Kind::Verification);
    scene.assert_absent();
}

#[tokio::test]
async fn a_wrong_size_fails_before_the_body_is_read() {
    let scene = Scene::new(LENGTH);
    let mut request = scene.request();
    request.size = 5;
    let error = scene.fetcher().fetch(&request, &Silent).await.unwrap_err();
    let failure = Failure::from(error);
    assert_eq!(failure.kind, Kind::Verification);
    assert!(failure.message.contains("expected 5 bytes") && failure.message.contains("3000000"));
    scene.assert_absent();
    assert_eq!(scene.partials(), 0);
}

#[tokio::test]
async fn a_body_of_undeclared_length_is_read_up_to_the_known_size() {
    let scene = Scene::new(LENGTH);
    scene.server.always(Fault::NoLength);
    scene.fetch().await.unwrap();
    scene.assert_complete();

    std::fs::remove_file(scene.place()).unwrap();
    let mut request = scene.request();
    request.size = 1_000_000;
    let error = scene.fetcher().fetch(&request, &Silent).await.unwrap_err();
    assert!(
        matches!(
            error,
            crate::fetch::Error::Size {
                expected: 1_000_000,
                ..
            }
        ),
        "{error}"
    );
    scene.assert_absent();
}

#[tokio::test]
async fn a_server_that_ignores_ranges_restarts_the_download() {
    let scene = Scene::new(LENGTH);
    scene.server.script([Fault::CloseAt(1_000_000), Fault::IgnoreRange]);
    scene.fetch().await.unwrap();
    scene.assert_complete();
    assert!(
        scene
            .heard
            .notes()
            .contains("ignored the requested range, starting over")
    );
    assert_eq!(scene.server.asked().len(), 2);
}

#[tokio::test]
async fn a_wrong_range_is_not_used() {
    let scene = Scene::new(LENGTH);
    scene.server.script([Fault::CloseAt(1_000_000), Fault::WrongRange]);
    let failure = scene.failure().await;
    assert_eq!(failure.kind, Kind::Download);
    assert!(failure.message.contains("sent the range `bytes 0-"), "{failure}");
    scene.assert_absent();
}

#[tokio::test]
async fn a_file_that_changed_on_the_server_restarts_the_download() {
    let scene = Scene::new(LENGTH);
    let old = content(LENGTH + 1).slice(1..);
    scene.server.publish(old, vec![("ETag", "\"old\"".into())]);
    scene.server.script([Fault::StallAt(1_000_000)]);
    let fetch = scene.fetch_impatiently();
    let publish = async {
        while scene.server.served() < 1_000_000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        scene
            .server
            .publish(scene.content.clone(), vec![("ETag", "\"new\"".into())]);
    };
    let (fetched, ()) = tokio::join!(fetch, publish);
    fetched.unwrap();
    scene.assert_complete();
    assert!(scene.heard.notes().contains("changed on the server, starting over"));
    assert_eq!(scene.server.asked().len(), 2);
}

#[tokio::test]
async fn busy_servers_are_asked_again_after_their_stated_delay() {
    for code in [408, 425, 429, 500, 502, 503, 504] {
        let scene = Scene::new(1000);
        scene.server.script([Fault::Refuse(code, None)]);
        scene.fetch().await.unwrap();
        scene.assert_complete();
    }
    let scene = Scene::new(1000);
    scene.server.script([
        Fault::Refuse(429, Some("1".into())),
        Fault::Refuse(503, Some("Sun, 06 Nov 1994 08:49:37 GMT".into())),
    ]);
    scene.fetch().await.unwrap();
    scene.assert_complete();
    let notes = scene.heard.notes();
    for part in [
        "retry 1 of 3 at 127.0.0.1:",
        "429 Too Many Requests",
        "retry 2 of 3",
        "503 Service Unavailable",
    ] {
        assert!(notes.contains(part), "{notes}");
    }
}

#[tokio::test]
async fn a_server_that_asks_to_wait_for_hours_is_given_up() {
    let scene = Scene::new(1000);
    scene.server.always(Fault::Refuse(503, Some("7200".into())));
    assert_eq!(scene.failure().await.kind, Kind::Download);
    assert_eq!(scene.server.asked().len(), 1);
}

#[tokio::test]
async fn other_refusals_are_final() {
    for code in [400, 401, 403, 404, 410, 451] {
        let scene = Scene::new(1000);
        scene.server.always(Fault::Refuse(code, None));
        let failure = scene.failure().await;
        assert_eq!(failure.kind, Kind::Download);
        assert!(failure.message.contains(&code.to_string()), "{failure}");
        assert!(failure.message.contains(scene.url().as_str()), "{failure}");
        assert_eq!(scene.server.asked().len(), 1, "{code}");
        scene.assert_absent();
        assert_eq!(scene.partials(), 0, "{code}");
    }
}

#[tokio::test]
async fn a_redirect_is_followed_and_a_loop_is_not() {
    let scene = Scene::new(1000);
    scene.server.script([Fault::Redirect("/elsewhere".into())]);
    scene.fetch().await.unwrap();
    scene.assert_complete();
    assert_eq!(scene.server.asked()[1].target, "/elsewhere");

    let scene = Scene::new(1000);
    scene.server.always(Fault::Redirect("/again".into()));
    let failure = scene.failure().await;
    assert_eq!(failure.kind, Kind::Download);
    assert!(failure.message.contains("redirects"), "{failure}");
    assert!(scene.server.asked().len() <= 12);
    scene.assert_absent();
}

#[tokio::test]
async fn a_redirect_to_plain_http_elsewhere_is_refused_with_its_secrets_hidden() {
    let scene = Scene::new(1000);
    scene
        .server
        .always(Fault::Redirect("http://ann:s3cret@example.com/file?sig=abc".into()));
    let failure = scene.failure().await;
    assert_eq!(failure.kind, Kind::Download);
    assert!(
        failure.message.contains("example.com/file") && failure.message.contains("not https"),
        "{failure}"
    );
    assert!(
        !failure.message.contains("s3cret") && !failure.message.contains("abc"),
        "{failure}"
    );
    assert_eq!(scene.server.asked().len(), 1);
}

#[tokio::test]
async fn a_wrong_hash_is_shown_and_the_file_discarded() {
    let scene = Scene::new(LENGTH);
    scene.server.always(Fault::Corrupt);
    let mut corrupt = scene.content.to_vec();
    corrupt[LENGTH / 2] ^= 1;
    let failure = scene.failure().await;
    assert_eq!(failure.kind, Kind::Verification);
    assert!(
        failure.message.contains(&Sha256::of(&scene.content).to_string()),
        "{failure}"
    );
    assert!(failure.message.contains(&Sha256::of(&corrupt).to_string()), "{failure}");
    assert_eq!(scene.server.asked().len(), 1);
    assert_eq!(scene.partials(), 0);
    scene.assert_absent();
}

#[tokio::test]
async fn an_encoded_body_is_refused() {
    let scene = Scene::new(10_000);
    scene.server.always(Fault::Gzip);
    let failure = scene.failure().await;
    assert_eq!(failure.kind, Kind::Download);
    assert!(failure.message.contains("`gzip`"), "{failure}");
    scene.assert_absent();
    assert_eq!(scene.partials(), 0);
}

#[tokio::test]
async fn a_refused_connection_names_the_url() {
    let scene = Scene::new(1000);
    let mut request = scene.request();
    // A port without a listener, because its listener was just dropped.
    let address = FaultServer::start("").address();
    request.url = format!("http://{address}/x").parse().unwrap();
    let error = scene.fetcher().fetch(&request, &scene.heard).await.unwrap_err();
    let failure = Failure::from(error);
    assert_eq!(failure.kind, Kind::Download);
    assert!(
        failure.message.contains(request.url.as_str()) && failure.message.contains("refused"),
        "{failure}"
    );
    assert!(failure.hint.is_some());
    assert!(scene.heard.notes().contains("retry 1 of 3 at 127.0.0.1:"));
    assert_eq!(scene.partials(), 0);
}

#[tokio::test]
async fn plain_http_elsewhere_is_refused_before_a_write() {
    let scene = Scene::new(1000);
    let mut request = scene.request();
    request.url = "http://ann:s3cret@example.com/x".parse().unwrap();
    let error = scene.fetcher().fetch(&request, &Silent).await.unwrap_err();
    let failure = Failure::from(error);
    assert_eq!(failure.kind, Kind::Usage);
    assert!(!failure.message.contains("s3cret"), "{failure}");
    assert!(!scene.downloads().exists());
    let mirrors = vec![request.url.clone()];
    assert!(Fetcher::new(Network::default(), scene.downloads(), mirrors, false).is_err());
}
