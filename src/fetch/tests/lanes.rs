//! Several connections for one file.

use gem_setup_support::fault::Fault;

use super::Scene;

const LENGTH: usize = 64 << 20;

/// A server that limits each connection, so that more connections raise the throughput.
fn limited() -> Scene {
    let scene = Scene::new(LENGTH);
    scene.server.limit_rate(6 << 20);
    scene
}

#[tokio::test]
async fn connections_are_added_if_each_is_limited() {
    let scene = limited();
    let fetched = scene.fetch().await.unwrap();
    scene.assert_complete();
    // For the server a response ends a little later than for the client, so each lane may be counted twice. The number of lanes is tested
    // with the tuner: here, a pause of the machine looks like a link on which more lanes do not help.
    let at_once = scene.server.most_at_once();
    assert!((2..=16).contains(&at_once), "{at_once}");
    assert!(fetched.transferred < LENGTH as u64 * 11 / 10, "{}", fetched.transferred);
    let ranged = scene.server.asked().into_iter().filter(|a| a.header("range").is_some());
    assert!(
        ranged
            .into_iter()
            .all(|a| a.header("if-range") == Some("\"version-1\""))
    );
}

#[tokio::test]
async fn a_server_without_ranges_keeps_its_one_connection() {
    let scene = limited();
    scene.server.limit_rate(24 << 20);
    scene.server.for_ranges(Fault::IgnoreRange);
    let fetched = scene.fetch().await.unwrap();
    scene.assert_complete();
    assert!(
        fetched.transferred < 2 * LENGTH as u64 + (8 << 20),
        "{}",
        fetched.transferred
    );
}

#[tokio::test]
async fn a_range_that_stalls_or_breaks_is_requested_again() {
    let scene = limited();
    scene.server.script([
        Fault::None,
        Fault::StallAt(1 << 20),
        Fault::ResetAt(1 << 20),
        Fault::Refuse(503, None),
    ]);
    // A pause is not a failure here: a stalled range must be noticed by its speed, compared with its neighbours'.
    scene.fetch().await.unwrap();
    scene.assert_complete();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_parallel_download_loses_little() {
    let scene = limited();
    for point in [16 << 20, 32 << 20, 48 << 20] {
        scene.interrupt_once_served(point).await;
    }
    scene.fetch().await.unwrap();
    scene.assert_complete();
    let served = scene.server.served();
    // A busy machine leaves more of each lane unread in the sockets' buffers.
    assert!(served < LENGTH as u64 * 5 / 4, "{served} of {LENGTH}");
}
