//! A limit on an account's threads and processes.

use std::fs::{Permissions, read_to_string, set_permissions};
use std::os::unix::fs::{PermissionsExt, chown};

use super::harness::{Gem, Home, assert_says};

/// An account without a name and without other processes.
const ACCOUNT: u32 = 61_017;

/// gem-setup as that account, with at most `limit` threads.
fn limited(home: &Home, limit: &str, args: &[&str]) -> Gem {
    let account = ACCOUNT.to_string();
    let script = format!("ulimit -u {limit}; exec \"$@\"");
    home.program("setpriv")
        .args(["--reuid", &account, "--regid", &account, "--clear-groups"])
        .args(["bash", "-c", &script, "bash", env!("CARGO_BIN_EXE_gem-setup"), "--home"])
        .arg(home.path())
        .args(args)
}

/// Root has no limit, so the test uses another account; only root can switch to it.
#[test]
fn a_limit_of_threads_is_named_and_nothing_panics() {
    let home = Home::new();
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tested: takes root");
        return;
    }
    for directory in [home.path(), home.work()] {
        chown(&directory, Some(ACCOUNT), Some(ACCOUNT)).unwrap();
        set_permissions(directory.parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
    }
    let port = home.port.to_string();
    for limit in [1, 3, 5, 6, 7, 8, 9, 10, 12, 60] {
        let run = limited(
            &home,
            &limit.to_string(),
            &["start", "--runtime", "builtin", "--port", &port],
        )
        .run();
        let log = read_to_string(home.layout().log_file()).unwrap_or_default();
        assert!(
            !format!("{log}{}", run.stderr).contains("panicked"),
            "{limit}: {run:#?}\n{log}"
        );
        match run.status {
            0 => assert!(limit > 3, "the limit had no effect"),
            _ => assert_says(&run.stderr, &["ulimit -u"]),
        }
        assert!(limit < 60 || run.status == 0, "{run:#?}");
        limited(&home, "unlimited", &["stop"]).ok();
    }
}
