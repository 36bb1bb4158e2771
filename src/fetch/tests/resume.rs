//! Bytes on disk are not fetched again, but always verified.

use std::process::Command;
use std::time::Duration;

use gem_setup_support::fault::{Fault, FaultServer};
use url::Url;

use super::{Scene, content, patience};
use crate::error::Kind;
use crate::fetch::partial::Partial;
use crate::fetch::{Error, Fetcher};
use crate::net::Network;
use crate::progress::Silent;

const LENGTH: usize = 3_000_000;

/// Leaves a partial download of `bytes`, as a killed process would.
async fn interrupted_at(scene: &Scene, bytes: u64) {
    scene.server.script([Fault::StallAt(bytes)]);
    let (fetcher, request) = (scene.fetcher(), scene.request());
    tokio::select! {
        result = fetcher.fetch(&request, &scene.heard) => panic!("ended by itself: {result:?}"),
        () = async {
            let part = scene.downloads().join(format!("{}.part", request.sha256));
            while part.metadata().map_or(0, |m| m.len()) < bytes {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        } => {}
    }
    // Its writer runs for a moment longer, and looks at the files last.
    drop(Partial::open(&scene.downloads(), &request.sha256).await.unwrap());
}

#[tokio::test]
async fn a_later_run_continues_where_an_earlier_one_stopped() {
    let scene = Scene::new(LENGTH);
    interrupted_at(&scene, 2_000_000).await;
    let fetched = scene.fetch().await.unwrap();
    scene.assert_complete();
    assert_eq!((fetched.resumed, fetched.transferred), (2_000_000, 1_000_000));
    assert_eq!(scene.server.asked()[1].header("range"), Some("bytes=2000000-2524287"));
}

#[tokio::test]
async fn a_complete_partial_download_needs_no_request() {
    let scene = Scene::new(LENGTH);
    interrupted_at(&scene, 2_000_000).await;
    // A fetch that has received its last byte cannot be stopped reliably before it places the file.
    let part = scene.downloads().join(format!("{}.part", scene.request().sha256));
    std::fs::write(&part, &scene.content).unwrap();
    let asked = scene.server.asked().len();
    let fetched = scene.fetch().await.unwrap();
    scene.assert_complete();
    assert_eq!((fetched.resumed, fetched.transferred), (LENGTH as u64, 0));
    assert_eq!(scene.server.asked().len(), asked);
}

#[tokio::test]
async fn damaged_bytes_on_disk_are_fetched_again() {
    let scene = Scene::new(LENGTH);
    interrupted_at(&scene, 2_000_000).await;
    let part = scene.downloads().join(format!("{}.part", scene.request().sha256));
    let mut bytes = std::fs::read(&part).unwrap();
    bytes[1_000_000] ^= 1;
    std::fs::write(&part, bytes).unwrap();
    let fetched = scene.fetch().await.unwrap();
    scene.assert_complete();
    assert!(scene.heard.notes().contains("starting over"));
    assert_eq!((fetched.resumed, fetched.transferred), (0, 4_000_000));
}

#[tokio::test]
async fn a_wrong_resumed_file_is_fetched_once_more() {
    let scene = Scene::new(LENGTH);
    scene.server.always(Fault::Corrupt);
    interrupted_at(&scene, 2_000_000).await;
    assert_eq!(scene.failure().await.kind, Kind::Verification);
    assert_eq!(scene.partials(), 0);
    scene.assert_absent();
}

#[tokio::test]
async fn a_source_with_a_wrong_size_keeps_the_partial_download() {
    let scene = Scene::new(LENGTH);
    interrupted_at(&scene, 2_000_000).await;
    // The reply of a hotel network before the login.
    scene.server.publish("<html>please sign in</html>", Vec::new());
    let mut request = scene.request();
    request.size = LENGTH as u64;
    let error = scene.fetcher().fetch(&request, &scene.heard).await.unwrap_err();
    assert!(matches!(error, Error::Size { .. }), "{error}");
    scene
        .server
        .publish(scene.content.clone(), vec![("ETag", "\"version-1\"".into())]);
    let fetched = scene.fetcher().fetch(&request, &scene.heard).await.unwrap();
    scene.assert_complete();
    assert_eq!(fetched.resumed, 2_000_000);
}

#[tokio::test]
async fn unusable_partial_downloads_are_not_kept() {
    let scene = Scene::new(LENGTH);
    scene.server.publish(scene.content.clone(), Vec::new());
    scene.server.always(Fault::CloseAt(2_000_000));
    scene.failure().await;
    assert_eq!(scene.partials(), 0);
}

#[tokio::test]
async fn without_a_strong_validator_a_later_run_starts_over() {
    for headers in [Vec::new(), vec![("ETag", "W/\"weak\"".to_owned())]] {
        let scene = Scene::new(LENGTH);
        scene.server.publish(scene.content.clone(), headers);
        interrupted_at(&scene, 2_000_000).await;
        let fetched = scene.fetch().await.unwrap();
        scene.assert_complete();
        assert_eq!(fetched.resumed, 0);
        assert_eq!(scene.server.asked()[1].header("range"), None);
    }
}

#[tokio::test]
async fn a_modification_date_serves_as_validator() {
    let scene = Scene::new(LENGTH);
    let headers = vec![
        ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT".to_owned()),
        ("Date", "Mon, 07 Nov 1994 08:49:37 GMT".to_owned()),
    ];
    scene.server.publish(scene.content.clone(), headers);
    interrupted_at(&scene, 2_000_000).await;
    assert_eq!(scene.fetch().await.unwrap().resumed, 2_000_000);
    let asked = scene.server.asked();
    assert_eq!(asked[1].header("if-range"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
}

#[tokio::test]
async fn a_file_that_became_shorter_is_started_over() {
    let scene = Scene::new(LENGTH);
    scene
        .server
        .publish(content(2 * LENGTH), vec![("ETag", "\"version-1\"".into())]);
    interrupted_at(&scene, LENGTH as u64 + 10).await;
    scene
        .server
        .publish(scene.content.clone(), vec![("ETag", "\"version-1\"".into())]);
    scene.fetch().await.unwrap();
    scene.assert_complete();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_interruptions_lose_less_than_a_tenth() {
    let scene = Scene::new(48 << 20);
    scene.server.limit_rate(48 << 20);
    let length = scene.content.len() as u64;
    let mut points: Vec<u64> = (0..10).map(|_| fastrand::u64(0..length)).collect();
    points.sort_unstable();
    for point in points {
        scene.interrupt_once_served(point).await;
    }
    scene.fetch().await.unwrap();
    scene.assert_complete();
    let served = scene.server.served();
    assert!(
        served >= length && served < length + length / 10,
        "{served} of {length}"
    );
}

#[tokio::test]
async fn two_fetches_of_one_file_take_turns() {
    let scene = Scene::new(LENGTH);
    scene.server.limit_rate(20_000_000);
    let (fetcher, request) = (scene.fetcher(), scene.request());
    let (one, two) = tokio::join!(fetcher.fetch(&request, &Silent), fetcher.fetch(&request, &Silent));
    one.unwrap();
    two.unwrap();
    scene.assert_complete();
}

#[tokio::test]
async fn the_next_mirror_continues_the_same_version() {
    let scene = Scene::new(LENGTH);
    scene.server.script([Fault::CloseAt(1_000_000)]);
    scene.server.for_ranges(Fault::Refuse(404, None));
    let second = FaultServer::start(scene.content.clone());
    let mirrors = [&scene.server, &second].map(|server| server.url().parse().unwrap());
    let network = Network::default().with_patience(patience());
    let fetcher = Fetcher::new(network, scene.downloads(), mirrors.to_vec(), true).unwrap();
    let mut request = scene.request();
    request.url = "https://github.com/owner/repo/file.bin".parse().unwrap();
    let fetched = fetcher.fetch(&request, &scene.heard).await.unwrap();
    scene.assert_complete();
    assert_eq!(
        fetched.source.to_string(),
        format!("{}/owner/repo/file.bin", second.url())
    );
    assert_eq!(second.served(), 2_000_000);
    assert!(scene.heard.notes().contains("trying the next source"));
}

#[tokio::test]
async fn a_broken_copy_is_not_mixed_with_earlier_bytes() {
    let scene = Scene::new(LENGTH);
    scene.server.script([Fault::CloseAt(1_000_000)]);
    scene.server.for_ranges(Fault::Refuse(404, None));
    let bundle = scene.directory.path().join("bundle");
    std::fs::create_dir_all(bundle.join("owner/repo")).unwrap();
    // A file that can be opened but not read; Linux has one for every account.
    let link = Command::new("ln")
        .args(["-s", "/proc/self/mem"])
        .arg(bundle.join("owner/repo/file.bin"))
        .status();
    assert!(link.unwrap().success());
    let last = FaultServer::start(scene.content.clone());
    let mirrors = vec![
        scene.server.url().parse().unwrap(),
        Url::from_directory_path(&bundle).unwrap(),
        last.url().parse().unwrap(),
    ];
    let network = Network::default().with_patience(patience());
    let fetcher = Fetcher::new(network, scene.downloads(), mirrors, true).unwrap();
    let mut request = scene.request();
    request.url = "https://github.com/owner/repo/file.bin".parse().unwrap();
    fetcher.fetch(&request, &scene.heard).await.unwrap();
    scene.assert_complete();
    assert_eq!(last.served(), LENGTH as u64);
}
