//! Files that must be in the runtime's directory. Only Windows needs some, but a catalog can name them for any platform.

use std::fs;
use std::path::Path;

use gem_setup_support::mirror::{sha256_hex, zip_of};

use super::harness::{Companion, Home, assert_same, assert_says, executable, tree};

/// A catalog with a companion for this machine.
fn with_companion(home: &Home, sha256: Option<String>) {
    let archive = zip_of(&[("bin/x64/dxil.dll", b"dxil"), ("bin/x64/dxcompiler.dll", b"dxcompiler")]).unwrap();
    let companion = Companion {
        sha256: sha256.unwrap_or_else(|| sha256_hex(&archive)),
        archive: &archive,
        extract: &["bin/x64/dxil.dll", "bin/x64/dxcompiler.dll"],
    };
    home.write_catalog(&sha256_hex(&executable()), Some(&companion));
}

#[test]
fn companions_are_placed_beside_the_runtime_once() {
    let home = Home::new();
    with_companion(&home, None);
    assert_eq!(home.install(&["--no-start"]).ok().step("companions"), "changed");
    let bin = home.layout().lit_bin();
    assert_eq!(fs::read(bin.join("dxil.dll")).unwrap(), b"dxil");
    assert_eq!(fs::read(bin.join("dxcompiler.dll")).unwrap(), b"dxcompiler");
    assert_eq!(home.doctor().check("platform.companions")["status"], "ok");
    let before = tree(&home.path(), &[]);
    assert_eq!(home.install(&["--no-start"]).ok().step("companions"), "ok");
    assert_same(&before, &tree(&home.path(), &[]));
}

#[test]
fn install_restores_a_missing_or_changed_companion() {
    let home = Home::new();
    with_companion(&home, None);
    home.install(&["--no-start"]).ok();
    let dll = home.layout().lit_bin().join("dxil.dll");
    let spoil: [&dyn Fn(&Path); 2] = [&|dll| fs::remove_file(dll).unwrap(), &|dll| {
        fs::write(dll, "foreign").unwrap()
    }];
    for spoil in spoil {
        spoil(&dll);
        let check = home.doctor().check("platform.companions");
        assert_eq!(check["status"], "fail");
        assert_says(check["detail"].as_str().unwrap(), &[dll.to_str().unwrap()]);
        assert_eq!(home.install(&["--no-start"]).ok().changed(), ["companions"]);
        assert_eq!(fs::read(&dll).unwrap(), b"dxil");
    }
}

#[test]
fn an_archive_with_the_wrong_hash_is_not_unpacked() {
    let home = Home::new();
    with_companion(&home, Some("7".repeat(64)));
    let run = home.install(&["--no-start"]).ends(6);
    let message = run.result()["error"]["message"].as_str().unwrap().to_owned();
    assert_says(&message, &["dxc.zip", &"7".repeat(64)]);
    assert_eq!(run.step("companions"), "failed");
    assert!(!home.layout().lit_bin().join("dxil.dll").exists());
}
