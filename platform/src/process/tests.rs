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
        ..Program::default()
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
fn a_process_has_its_command_line_from_the_moment_it_is_started() {
    for _ in 0..50 {
        let mut child = sleeper().command().stdout(std::process::Stdio::null()).spawn().unwrap();
        let identity = identity(child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(identity.command.len() > 1, "{identity:?}");
    }
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
#[cfg_attr(windows, ignore = "Wine does not tell whose a socket is")]
fn the_listener_on_a_port_is_found() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let ours = Some(std::process::id());
    until(|| listener_on(address.ip(), address.port()).map(|found| found.pid) == ours);
    drop(listener);
    until(|| listener_on(address.ip(), address.port()).is_none());
}

/// For tests that other tests' processes disturb: between fork and exec those hold this process's files.
pub(super) fn until(condition: impl Fn() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the condition never came true");
}

#[tokio::test]
async fn a_supervised_child_ends_on_request_or_by_kill() {
    // `cat` reads until its input ends, which for the guard is when it is dropped.
    let guard = Guard::new(Program {
        path: "cat".into(),
        ..Program::default()
    });
    let mut child = Supervised::spawn(&sleeper(), &guard).unwrap();
    let identity = identity(child.id()).unwrap();
    assert!(is_alive(&identity));
    let asked = child.ask_to_end();
    if cfg!(unix) {
        asked.unwrap();
    } else if asked.is_err() {
        // A test run may have no console.
        child.kill_group(&guard);
    }
    let ended = tokio::time::timeout(Duration::from_secs(20), child.wait()).await;
    assert!(!ended.unwrap().unwrap().success());
    child.kill_group(&guard);
    assert!(!is_alive(&identity));
}

#[test]
#[ignore = "a process, not a test: `the_guard_kills_the_whole_group_when_its_owner_is_gone` starts it"]
fn plays_the_guard() {
    guard(std::io::stdin().lock());
}

/// The guard's input ends when its owner does, however that came.
#[cfg(unix)]
#[tokio::test]
async fn the_guard_kills_the_whole_group_when_its_owner_is_gone() {
    use tokio::io::{AsyncBufReadExt, BufReader};

    let guard = Guard::new(Program {
        path: std::env::current_exe().unwrap(),
        args: ["process::tests::plays_the_guard", "--exact", "--ignored"]
            .map(Into::into)
            .to_vec(),
        ..Program::default()
    });
    let parent_and_child = Program {
        path: "sh".into(),
        args: ["-c", "sleep 60 & echo $!; wait"].map(Into::into).to_vec(),
        ..Program::default()
    };
    let mut child = Supervised::spawn(&parent_and_child, &guard).unwrap();
    let output = child.take_output().0.unwrap();
    let line = BufReader::new(output).lines().next_line().await.unwrap().unwrap();
    let grandchild = identity(line.parse().unwrap()).unwrap();
    assert!(is_alive(&grandchild));
    drop(guard);
    tokio::time::timeout(Duration::from_secs(20), child.wait())
        .await
        .unwrap()
        .unwrap();
    let gone = async {
        while is_alive(&grandchild) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_service_manager_is_notified_by_path_and_by_abstract_name() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let name = format!("gem-platform-test-{}", std::process::id());
    let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
    for (receiver, socket) in [
        (UnixDatagram::bind(&path).unwrap(), path.clone().into_os_string()),
        (
            UnixDatagram::bind_addr(&abstract_address).unwrap(),
            format!("@{name}").into(),
        ),
    ] {
        notify(&socket, "READY=1").unwrap();
        let mut buffer = [0; 64];
        let length = receiver.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
    }
}
