//! `upgrade --self`: the program replaces itself.
#![cfg(unix)]

use std::fs;
use std::path::{Path, PathBuf};

use gem_setup_support::mirror::sha256_hex;

#[cfg(target_os = "linux")]
use crate::harness::Mount;
use crate::harness::{Gem, Home, assert_says, finish};

/// A copy of the program in a directory of its own, which may be replaced.
struct Own<'h> {
    home: &'h Home,
    path: PathBuf,
}

impl<'h> Own<'h> {
    fn new(home: &'h Home) -> Self {
        let path = home.beside("bin/gem-setup");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_gem-setup"), &path).unwrap();
        Self { home, path }
    }

    fn run(&self, args: &[&str]) -> Gem {
        self.home
            .program(&self.path)
            .arg("--home")
            .arg(self.home.path())
            .args(args)
    }

    /// Publishes `program` as gem-setup `version`; returns the catalog with it.
    fn publish(&self, version: &str, program: &[u8]) -> PathBuf {
        let path = format!("/x/gem-setup/releases/download/{version}/gem-setup");
        self.home.mirror.publish(&path, program.to_vec());
        let text = fs::read_to_string(self.home.catalog()).unwrap();
        let text = format!(
            "{text}\n[gem-setup]\nversion = \"{version}\"\n[[gem-setup.artifact]]\ntarget = \"{}\"\nurl = \"https://github.com{path}\"\nsha256 = \"{}\"\n",
            gem_platform::Target::host().unwrap(),
            sha256_hex(program)
        );
        let catalog = self.home.beside(&format!("own-{version}.toml"));
        fs::write(&catalog, text).unwrap();
        catalog
    }

    fn upgrade_to(&self, catalog: &Path) -> Gem {
        let mirror = self.home.mirror.url();
        self.run(&["upgrade", "--self", "--mirror", &mirror, "--catalog"])
            .arg(catalog)
    }

    #[track_caller]
    fn assert_is(&self, version: &str) {
        assert_says(&self.run(&["version"]).ok().stdout, &[version]);
    }

    fn kept(&self) -> PathBuf {
        self.home.layout().versions().join("self")
    }

    /// Keeps `program` as the previous executable, with `version`.
    fn keep(&self, version: &str, program: &[u8]) {
        use std::os::unix::fs::PermissionsExt;

        let path = self.kept().join(format!("gem-setup-{version}"));
        self.home.write(&path, "");
        fs::write(&path, program).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

const CURRENT: &str = env!("CARGO_PKG_VERSION");

/// A program that prints gem-setup's `version` and routes requests.
fn says(version: &str) -> Vec<u8> {
    let decision = r#"{"model":"m","tier":"flash"}"#;
    format!("#!/bin/sh\ncase \"$*\" in *' route '*) echo '{decision}' ;; *) echo gem-setup {version} ;; esac\n")
        .into_bytes()
}

/// The same, with a delay of a second.
fn says_slowly(version: &str) -> Vec<u8> {
    [b"#!/bin/sh\nsleep 1\n", &*says(version)].concat()
}

#[test]
fn gem_setup_upgrades_itself_and_rolls_back() {
    let home = Home::new();
    let own = Own::new(&home);
    // A program that does not print its version is refused.
    let lying = own.publish("9.9.8", b"#!/bin/sh\necho hello\n");
    assert_says(
        &own.upgrade_to(&lying).ends(7).stderr,
        &["nothing was replaced", "9.9.8 is expected"],
    );
    own.assert_is(CURRENT);
    // So is a program that does nothing else, or does not end.
    for (program, fault) in [
        ("echo gem-setup 9.9.7", "does not decide"),
        (
            "case $1 in version) echo gem-setup 9.9.7 ;; *) exit 1 ;; esac",
            "does not decide",
        ),
        ("exec yes gem-setup 9.9.7", "9.9.7 is expected"),
    ] {
        let lying = own.publish("9.9.7", format!("#!/bin/sh\n{program}\n").as_bytes());
        assert_says(&own.upgrade_to(&lying).ends(7).stderr, &["nothing was replaced", fault]);
        own.assert_is(CURRENT);
    }
    // So is an older one.
    own.upgrade_to(&own.publish("0.0.1", &says("0.0.1"))).ok();
    own.assert_is(CURRENT);
    let newer = own.publish("9.9.9", &says("9.9.9"));
    assert_says(&own.upgrade_to(&newer).ok().stdout, &["9.9.9"]);
    own.assert_is("9.9.9");
    assert_eq!(fs::read_dir(own.kept()).unwrap().count(), 1, "the one before is kept");
    // And back: from the real executable to the kept one.
    fs::remove_dir_all(own.kept()).unwrap();
    fs::remove_file(&own.path).unwrap();
    let own = Own::new(&home);
    own.keep("0.0.9", &says("0.0.9"));
    own.run(&["rollback", "self"]).ok();
    own.assert_is("0.0.9");
    assert!(own.kept().join(format!("gem-setup-{CURRENT}")).exists());
}

#[test]
fn a_kept_executable_that_does_not_work_is_refused() {
    let home = Home::new();
    let own = Own::new(&home);
    let cut_off = fs::read(&own.path).unwrap()[..1000].to_vec();
    for program in [cut_off, b"#!/bin/sh\necho EVIL\n".to_vec(), says("0.0.8")] {
        own.keep("0.0.9", &program);
        let run = own.run(&["rollback", "self"]).ends(7);
        assert_says(
            &run.stderr,
            &["nothing was replaced", "gem-setup-0.0.9", "0.0.9 is expected"],
        );
        own.assert_is(CURRENT);
    }
}

#[test]
fn two_replacements_at_once_keep_the_old_executable() {
    let home = Home::new();
    let own = Own::new(&home);
    let slow = own.publish("9.9.9", &says_slowly("9.9.9"));
    let both = [own.upgrade_to(&slow).spawn(), own.upgrade_to(&slow).spawn()].map(finish);
    for run in &both {
        assert_eq!(run.status, 0, "{both:#?}");
    }
    own.assert_is("9.9.9");
    let kept = own.kept().join(format!("gem-setup-{CURRENT}"));
    let real = fs::read(env!("CARGO_BIN_EXE_gem-setup")).unwrap();
    assert!(fs::read(kept).unwrap() == real, "the old executable is kept");
    // A rollback waits too, and finds another executable than its own.
    fs::remove_file(&own.path).unwrap();
    let own = Own::new(&home);
    own.keep("0.0.9", &says_slowly("0.0.9"));
    fs::remove_file(own.kept().join(format!("gem-setup-{CURRENT}"))).unwrap();
    let mut both = [
        own.run(&["rollback", "self"]).spawn(),
        own.run(&["rollback", "self"]).spawn(),
    ]
    .map(finish);
    both.sort_by_key(|run| run.status);
    assert_eq!(both[0].status, 0, "{both:#?}");
    assert_ne!(both[1].status, 0, "{both:#?}");
    own.assert_is("0.0.9");
    let kept = own.kept().join(format!("gem-setup-{CURRENT}"));
    assert!(fs::read(kept).unwrap() == real, "the old executable is kept");
}

#[cfg(target_os = "linux")]
#[test]
fn an_irreplaceable_executable_is_named_before_a_download() {
    let home = Home::new();
    let directory = home.beside("bin");
    let Some(mount) = Mount::on(directory.clone(), c"size=256m") else {
        return;
    };
    let own = directory.join("gem-setup");
    fs::copy(env!("CARGO_BIN_EXE_gem-setup"), &own).unwrap();
    mount.make_read_only();
    pin_own(&home, "9.9.9");
    let run = home.program(&own).arg("--home").arg(home.path());
    let run = run.args(["upgrade", "--self", "--catalog"]).arg(home.catalog()).ends(9);
    assert_says(
        &run.stderr,
        &[
            "nothing can be written to",
            directory.to_str().unwrap(),
            "owner of that directory",
        ],
    );
    home.assert_untouched();
}

/// Pins gem-setup itself at `version` in the catalog, with an unreachable address.
fn pin_own(home: &Home, version: &str) {
    let target = gem_platform::Target::host().unwrap();
    let text = fs::read_to_string(home.catalog()).unwrap();
    let entry = format!(
        "{text}\n[gem-setup]\nversion = \"{version}\"\n[[gem-setup.artifact]]\ntarget = \"{target}\"\nurl = \"https://github.com/x\"\nsha256 = \"{}\"\n",
        sha256_hex(b"")
    );
    fs::write(home.catalog(), entry).unwrap();
}

#[test]
fn a_package_managers_executable_is_not_replaced() {
    use std::os::unix::fs::PermissionsExt;

    let home = Home::new();
    pin_own(&home, "9.9.9");
    let program = fs::read(env!("CARGO_BIN_EXE_gem-setup")).unwrap();
    for (path, record, owner) in [
        ("lib/node_modules/gem-setup/bin", "lib/package.json", "npm owns it"),
        (
            ".npm/_npx/0f/node_modules/gem-setup/bin",
            ".npm/package.json",
            "npx owns it",
        ),
        (".cache/uv/archive-v0/x/bin", ".cache/uv/CACHEDIR.TAG", "uvx owns it"),
        (
            "user/bin",
            "user/lib/python3.12/site-packages/gem_setup-0.2.0.dist-info/RECORD",
            "pip owns it",
        ),
        ("env/bin", "env/pyvenv.cfg", "pip owns it"),
        ("tools/bin", "tools/.crates.toml", "cargo owns it"),
    ] {
        let own = home.beside(path).join("gem-setup");
        home.write(
            &home.beside(record),
            "[v1]\n\"gem-setup 0.2.0 (registry)\" = [\"gem-setup\"]\n",
        );
        home.write(&own, "");
        fs::write(&own, &program).unwrap();
        fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
        let run = home.program(&own).arg("--home").arg(home.path());
        let run = run.args(["upgrade", "--self", "--catalog"]).arg(home.catalog()).ends(9);
        assert_says(&run.stderr, &[owner, "hint: run `"]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_hanging_package_manager_is_not_waited_for() {
    use std::os::unix::fs::PermissionsExt;

    for answer in ["sleep 3600", "yes"] {
        let home = Home::new();
        let own = Own::new(&home);
        let tools = home.beside("tools");
        let tool = tools.join("dpkg-query");
        home.write(&tool, &format!("#!/bin/sh\necho asked > \"$0.asked\"\nexec {answer}\n"));
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
        let run = own.upgrade_to(&own.publish("9.9.9", &says("9.9.9"))).env("PATH", path);
        run.ok();
        assert!(tools.join("dpkg-query.asked").exists());
        own.assert_is("9.9.9");
    }
}
