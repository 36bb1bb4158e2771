//! The place where a bundle is made: one `bundle create` at a time works there.

use std::fs;

use gem_setup::lock::Lock;

use super::harness::{Home, assert_says};

#[test]
fn two_bundles_are_not_made_in_one_place_at_once() {
    let home = Home::new();
    let create = |place: &str| {
        home.gem(&["bundle", "create", "--runtime", "builtin"])
            .arg(home.beside(place))
    };
    fs::create_dir(home.beside("stick")).unwrap();
    fs::create_dir(home.beside("stick.tar.files")).unwrap();
    fs::write(home.beside("stick.tar.lock"), "precious").unwrap();
    for (place, lock) in [
        ("stick", "stick/bundle.unfinished"),
        ("stick.tar", "stick.tar.files/bundle.unfinished.lock"),
    ] {
        let held = Lock::try_acquire_in(&home.beside(lock)).unwrap().unwrap();
        let run = create(place).ends(9);
        assert_says(
            &run.stderr,
            &["another gem-setup is making a bundle", "wait until it is done"],
        );
        drop(held);
        create(place).ok();
        assert!(!home.beside(lock).exists(), "{lock} is left behind");
        home.gem(&["bundle", "verify"]).arg(home.beside(place)).ok();
    }
    assert_eq!(fs::read_to_string(home.beside("stick.tar.lock")).unwrap(), "precious");
}

#[test]
fn a_bundle_without_a_runtime_is_announced_before_it_is_made() {
    let home = Home::new();
    home.install(&["--runtime", "builtin", "--no-start"]).ok();
    let create = || home.gem(&["bundle", "create"]).arg(home.beside("stick"));
    assert_says(
        &create().ok().stderr,
        &["no runtime", "`builtin` is installed here", "--runtime auto"],
    );
    let named = create().args(["--runtime", "builtin"]).ok();
    assert!(!named.stderr.contains("no runtime"), "{named:#?}");
}
