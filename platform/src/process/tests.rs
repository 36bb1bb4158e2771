use std::time::Duration;

use super::*;

/// A process that outlives the test unless it is ended; spoken of by the test that starts it.
fn sleeper() -> Program {
    let (path, args) = if cfg!(windows) {
        ("ping", ["-n", "60", "127.0.0.1"].as_slice())
    } else {
        ("sleep", ["60"].as_slice())
    };
    Program {
        path: path.into(),
        args: args.iter().map(Into::into).collect(),
        env: Vec::new(),
    }
}

#[test]
fn our_own_identity_names_this_program_and_stays_the_same() {
    let ours = identity(std::process::id()).unwrap();
    assert_eq!(identity(std::process::id()), Some(ours.clone()));
    assert!(ours.command[0].contains("gem_platform"), "{ours:?}");
    assert!(is_alive(&ours));
}

#[test]
fn a_later_process_with_the_same_id_is_another_one() {
    let mut ours = identity(std::process::id()).unwrap();
    ours.start_time += 1;
    assert!(!is_alive(&ours));
    assert_eq!(kill(&ours).unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn a_process_is_ended_by_its_identity_and_not_alive_afterwards() {
    let program = sleeper();
    let mut child = program.command().stdout(std::process::Stdio::null()).spawn().unwrap();
    let identity = identity(child.id()).unwrap();
    assert!(is_alive(&identity));
    ask_to_end(&identity).unwrap();
    child.wait().unwrap();
    assert!(!is_alive(&identity));
}

#[test]
fn the_listener_on_a_port_is_found() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let found = listener_on(address.ip(), address.port()).unwrap();
    assert_eq!(found.pid, std::process::id());
    drop(listener);
    assert_eq!(listener_on(address.ip(), address.port()), None);
}

#[tokio::test]
async fn a_supervised_child_ends_when_it_is_asked_to() {
    // `cat` reads until its input ends, which for the guard is when it is dropped.
    let guard = Guard::new(Program {
        path: "cat".into(),
        ..Program::default()
    });
    let mut child = Supervised::spawn(&sleeper(), &guard).unwrap();
    let identity = identity(child.id()).unwrap();
    assert!(is_alive(&identity));
    child.ask_to_end().unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), child.wait()).await;
    assert!(!ended.unwrap().unwrap().success());
    child.kill_group(&guard);
    assert!(!is_alive(&identity));
}
