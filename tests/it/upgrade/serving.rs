//! Requests and commands while the server changes its release.

use gem_setup::runtime::ProgramStamp;

#[cfg(unix)]
use super::script;
use super::{assert_answers, release, running, state, upgrade};
use crate::harness::{Home, assert_says, free_port};
#[cfg(unix)]
use crate::harness::{MODEL, finish, wait_until};
use crate::killed::classify;

#[cfg(unix)]
#[test]
fn requests_are_held_during_a_slow_switch() {
    const MANY: usize = 200;

    let home = Home::serving();
    home.release("v10", script("slow-start=2500").as_bytes());
    let child = upgrade(&home, "v10").spawn();
    let is_between = || {
        let status = home.gem(&["status", "--json"]).run().json();
        ["starting", "restarting"].contains(&status["child"]["state"].as_str().unwrap_or_default())
    };
    wait_until("there is no engine", is_between);
    let begun = std::time::Instant::now();
    let answered_by: Vec<String> = std::thread::scope(|scope| {
        let port = home.port;
        let clients = (0..MANY).map(|number| {
            std::thread::Builder::new()
                .stack_size(256 * 1024)
                .spawn_scoped(scope, move || match number % 2 {
                    0 => classify(port, &format!("rename {number}")),
                    _ => generate(port, &format!("say {number}")),
                })
                .unwrap()
        });
        let clients: Vec<_> = clients.collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let by_model = answered_by.iter().filter(|by| *by == "model").count();
    println!(
        "{by_model} of {MANY} by the model, all within {} ms",
        begun.elapsed().as_millis()
    );
    let run = finish(child);
    assert_eq!(run.status, 0, "{run:#?}");
    assert_eq!(state(&home)["version"], "v10");
    assert_answers(&home);
}

/// Asks the local model, which must always answer.
#[cfg(unix)]
fn generate(port: u16, text: &str) -> String {
    use gem_platform::process::Owner;
    use gem_setup::runtime::local::{self, Peer};

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let path = format!("/v1beta/models/{}:generateContent", MODEL);
    let body = serde_json::json!({"contents": [{"role": "user", "parts": [{"text": text}]}]});
    let within = std::time::Duration::from_secs(60);
    let posted = local::post(
        Peer::new(port, Owner::User),
        &path,
        Some(body.to_string().into()),
        within,
    );
    let answer = runtime.block_on(posted).unwrap();
    assert_eq!(answer.status, 200, "{text}: {answer:?}");
    "model".to_owned()
}

#[cfg(unix)]
#[test]
fn a_server_stopped_during_an_upgrade_is_no_failure() {
    for command in ["stop", "restart"] {
        let home = Home::serving();
        home.release("v10", script("slow-start=700").as_bytes());
        let child = upgrade(&home, "v10").spawn();
        wait_until("the release is current", || home.lit_in_use() != home.lit());
        home.gem(&[command]).ok();
        let run = finish(child);
        assert_eq!(run.status, 0, "{run:#?}");
        assert_eq!(state(&home)["version"], "v10");
        home.gem(&["start"]).ok();
        assert_answers(&home);
    }
}

#[test]
fn two_hundred_classifications_are_answered_during_switches() {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    let home = Home::serving();
    for version in ["v10", "v11"] {
        home.release(version, &release(version));
    }
    let (asked, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut by_model = 0;
                    while asked.load(Ordering::Relaxed) < 200 || !is_over.load(Ordering::Relaxed) {
                        let number = asked.fetch_add(1, Ordering::Relaxed);
                        // Different requests, so that none is answered from the cache.
                        by_model += usize::from(classify(home.port, &format!("rename file {number}")) == "model");
                        std::thread::sleep(std::time::Duration::from_millis(10));
                    }
                    by_model
                })
            })
            .collect();
        upgrade(&home, "v10").ok();
        upgrade(&home, "v11").ok();
        home.gem(&["rollback", "runtime"]).ok();
        is_over.store(true, Ordering::Relaxed);
        let by_model: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
        let asked = asked.load(Ordering::Relaxed);
        println!("{by_model} of {asked} were answered by the model");
        assert!(by_model > asked / 2, "{by_model} of {asked}");
    });
}

#[test]
fn a_server_on_another_port_takes_up_a_release() {
    let home = Home::serving();
    let port = free_port().to_string();
    home.gem(&["restart", "--port", &port]).ok();
    let elsewhere = format!("the server is running on port {port}");
    assert_says(
        &home.gem(&["smoke"]).ends(7).stderr,
        &[&elsewhere, "gem-setup install --port"],
    );
    home.release("v10", &release("ten"));
    upgrade(&home, "v10").ok();
    assert_eq!(running(&home), ProgramStamp::of(&home.lit_in_use()));
    home.gem(&["rollback", "runtime"]).ok();
    assert_eq!(state(&home)["version"], "v9");
    // A new port and a new release in one command.
    let mirror = home.mirror.url();
    let gem = home.gem(&["install", "--port", &port, "--mirror", &mirror, "--catalog"]);
    gem.arg(home.beside("catalog-v10.toml")).ok();
    assert_eq!(state(&home)["version"], "v10");
    assert_answers(&home);
}
