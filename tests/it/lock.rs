//! Faults of a lock that only Unix allows: its file is deleted, or opened to others, while it is held.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use gem_setup::lock::Lock;

#[test]
fn an_owner_notices_its_deleted_lock_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("server.lock");
    let lock = Lock::try_acquire(&path).unwrap().unwrap();
    assert!(lock.is_current());
    std::fs::remove_file(&path).unwrap();
    assert!(!lock.is_current());
    let next = Lock::try_acquire(&path).unwrap().unwrap();
    assert!(!lock.is_current() && next.is_current());
}

#[test]
fn no_other_user_can_open_a_lock() {
    let directory = tempfile::tempdir().unwrap();
    let own = directory.path().join("own");
    std::fs::create_dir(&own).unwrap();
    std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o777)).unwrap();
    let path = own.join("lock");
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let _lock = Lock::try_acquire(&path).unwrap().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&own), mode(&path)), (0o700, 0o600));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_lock_file_does_not_block_others() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("own").join("lock");
    let first = Lock::acquire(&path, Duration::ZERO).await.unwrap();
    let second = async {
        tokio::task::yield_now().await;
        std::fs::remove_dir_all(directory.path().join("own")).unwrap();
        drop(first);
    };
    let (lock, ()) = tokio::join!(Lock::acquire(&path, Duration::from_secs(5)), second);
    let _lock = lock.unwrap();
    assert!(Lock::acquire(&path, Duration::ZERO).await.is_err());
}
