//! Bundles: one file or directory with everything that a machine without internet needs; refused if it was changed.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use gem_platform::Target;
use gem_setup::lock::Lock;
use gem_setup_support::fault::{Authority, FaultServer};
use gem_setup_support::mirror::sha256_hex;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use super::harness::{Gem, Home, Run, assert_says, executable, finish, tree, wait_until};
#[cfg(unix)]
use super::surroundings::{make_wheel, with_wheel};

/// A bundle with the model at `name` beside the home that made it, and the output of its creation.
pub(super) fn bundle(name: &str, more: &[&str]) -> (Home, PathBuf, String) {
    let home = Home::installed();
    // A path that must be quoted.
    let bundle = home.beside("my medium").join(name);
    let create = home.gem(&["bundle", "create", "--model"]).args(more).arg(&bundle);
    let printed = create.ok().stdout;
    (home, bundle, printed)
}

#[test]
fn another_catalog_after_a_bundle_uses_its_own_addresses() {
    let (_first, bundle, _) = bundle("bundle.tar", &[]);
    let lit = [&executable()[..], b"\n# ten\n"].concat();
    let authority = Authority::new();
    let publisher = FaultServer::start_tls(lit.clone(), &authority);
    for command in ["install", "upgrade"] {
        let home = Home::new();
        install(&home, &bundle).ok();
        let catalog = home.release("v10", &lit);
        let text = fs::read_to_string(&catalog).unwrap();
        let at = format!("https://localhost:{}", publisher.address().port());
        fs::write(&catalog, text.replace("https://github.com", &at)).unwrap();
        let trusted = home.beside("ca.pem");
        fs::write(&trusted, authority.pem()).unwrap();
        let run = home
            .gem(&[command, "--json", "--catalog"])
            .arg(&catalog)
            .arg("--ca-cert")
            .arg(&trusted);
        assert!(run.ok().changed().contains(&"runtime".to_owned()), "{command}");
        let state: Value = serde_json::from_slice(&fs::read(home.layout().state_file()).unwrap()).unwrap();
        let of_bundle = (&state["mirrors"], &state["mirror_only"], &state["bundle"]);
        assert_eq!(of_bundle, (&json!([]), &json!(false), &Value::Null), "{command}");
    }
}

#[test]
fn a_mirror_in_the_configuration_keeps_the_recorded_bundle() {
    let (_first, bundle, _) = bundle("bundle", &[]);
    let home = Home::new();
    install(&home, &bundle).ok();
    home.write(
        &home.layout().config_file(),
        "mirror = [\"https://a.example\"]\nmirror_only = true\n",
    );
    fs::remove_file(home.lit()).unwrap();
    home.gem(&["install", "--no-start"]).ok();
    fs::remove_file(home.lit()).unwrap();
    home.gem(&["doctor", "--fix"]).run();
    assert!(home.lit().exists());
    let state: Value = serde_json::from_slice(&fs::read(home.layout().state_file()).unwrap()).unwrap();
    assert!(state["bundle"].is_string(), "{state}");
}

/// `install` from `bundle`, without a reachable network and with a runtime that cannot pull.
pub(super) fn install(home: &Home, bundle: &Path) -> Gem {
    home.gem(&[
        "install",
        "--json",
        "--accept-terms",
        "--no-start",
        "--port",
        &home.port.to_string(),
    ])
    .arg("--bundle")
    .arg(bundle)
    .env("HTTPS_PROXY", "http://127.0.0.1:9")
    .env("STAND_IN_PULL", "fail")
}

#[track_caller]
pub(super) fn refused(bundle: &Path, why: &str) {
    let home = Home::new();
    let run = install(&home, bundle).ends(6);
    let error = &run.result()["error"];
    assert_says(error["message"].as_str().unwrap(), &["cannot use the bundle", why]);
    assert_says(error["hint"].as_str().unwrap(), &["bundle"]);
    home.assert_untouched();
    home.gem(&["bundle", "verify"]).arg(bundle).ends(6);
}

#[test]
fn one_file_and_one_option_set_up_a_machine_without_internet() {
    for name in ["bundle.tar", "bundle"] {
        let (_first, bundle, printed) = bundle(name, &[]);
        let told = printed.lines().last().unwrap();
        assert_says(told, &["install --accept-terms --bundle", name]);
        let home = Home::new();
        home.gem(&["bundle", "verify"]).arg(&bundle).ok();
        let plan = install(&home, &bundle).arg("--dry-run").ok();
        assert_says(&plan.stdout, &["would"]);
        home.assert_untouched();

        let run = install(&home, &bundle).ok();
        assert_eq!(run.changed(), ["runtime", "terms", "model", "settings"]);
        assert_eq!(home.invocations("pull"), 0, "the model comes from the bundle");
        assert_eq!(home.mirror.asked(), Vec::<String>::new());
        let downloads = tree(&home.layout().downloads(), &[]);
        assert!(
            downloads.keys().all(|path| !path.to_string_lossy().contains("bundle")),
            "{downloads:?}"
        );
        assert_eq!(install(&home, &bundle).ok().changed(), Vec::<String>::new());
        fs::remove_dir_all(bundle.parent().unwrap()).unwrap();
        let later = home.gem(&["install", "--no-start"]).ok();
        assert_says(&later.stderr, &["using recorded options", "--bundle"]);
    }
}

/// The name under which the tar file `bundle` is unpacked.
fn name_when_unpacked(bundle: &Path) -> String {
    let mut archive = tar::Archive::new(fs::File::open(bundle).unwrap());
    let mut entries = archive.entries().unwrap().map(Result::unwrap);
    let mut list = entries
        .find(|entry| entry.path_bytes() == b"SHA256SUMS".as_slice())
        .unwrap();
    let mut text = Vec::new();
    list.read_to_end(&mut text).unwrap();
    format!("bundle-{:.16}", sha256_hex(&text))
}

#[cfg(unix)]
#[test]
fn a_plan_leaves_what_others_prepared_in_the_shared_directory_alone() {
    use std::os::unix::fs::symlink;

    let (home, bundle, _) = bundle("bundle.tar", &[]);
    let shared = home.beside("shared");
    let prepared = shared.join(format!("gem-setup-{}", name_when_unpacked(&bundle)));
    fs::create_dir_all(&prepared).unwrap();
    fs::write(home.beside("precious"), "precious").unwrap();
    for name in ["catalog.toml", "SHA256SUMS"] {
        symlink(home.beside("precious"), prepared.join(name)).unwrap();
    }
    let before = tree(&shared, &[]);
    let recorded = home.gem(&["install", "--json", "--force", "--dry-run"]);
    install(&home, &bundle).ok();
    for plan in [install(&home, &bundle).arg("--dry-run"), recorded] {
        plan.env("TMPDIR", &shared).ok();
        assert_eq!(fs::read(home.beside("precious")).unwrap(), b"precious");
        assert_eq!(tree(&shared, &[]), before);
    }
}

#[cfg(unix)]
#[test]
fn unpacking_follows_no_link() {
    use std::os::unix::fs::symlink;

    let (home, bundle, _) = bundle("bundle.tar", &[]);
    let other = Home::new();
    let directory = other.layout().downloads().join(name_when_unpacked(&bundle));
    fs::create_dir_all(&directory).unwrap();
    fs::write(other.beside("precious"), "precious").unwrap();
    symlink(other.beside("precious"), directory.join("catalog.toml")).unwrap();
    symlink(other.beside("precious"), directory.join("SHA256SUMS")).unwrap();
    symlink(home.beside("elsewhere"), directory.join("models")).unwrap();
    fs::create_dir(home.beside("elsewhere")).unwrap();
    let refused = install(&other, &bundle).ends(5);
    assert_says(&refused.result().to_string(), &["it is not a directory"]);
    assert_eq!(fs::read_dir(home.beside("elsewhere")).unwrap().count(), 0);
    fs::remove_file(directory.join("models")).unwrap();
    install(&other, &bundle).ok();
    assert_eq!(fs::read(other.beside("precious")).unwrap(), b"precious");
}

#[test]
fn a_command_does_not_delete_the_files_that_another_has_unpacked() {
    let (_first, bundle, _) = bundle("bundle.tar", &[]);
    let home = Home::new();
    install(&home, &bundle).ok();
    // The first waits for the home with its files unpacked; the second finds everything in place.
    let at_work = Lock::try_acquire(&home.layout().lock_file()).unwrap().unwrap();
    let first = install(&home, &bundle).arg("--force").spawn();
    let unpacked = home.layout().downloads().join(name_when_unpacked(&bundle));
    wait_until("the bundle is unpacked", || unpacked.join("SHA256SUMS").exists());
    let mut second = install(&home, &bundle).spawn();
    let deadline = Instant::now() + Duration::from_secs(3);
    while second.try_wait().unwrap().is_none() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    drop(at_work);
    for child in [first, second] {
        let run = finish(child);
        assert_eq!(run.status, 0, "{run:#?}");
    }
    let left = tree(&home.layout().downloads(), &[]);
    assert!(
        left.keys().all(|path| !path.to_string_lossy().contains("bundle")),
        "{left:?}"
    );
}

#[cfg(unix)]
#[test]
fn every_user_can_read_a_directory_whatever_the_umask_of_its_maker() {
    use std::os::unix::fs::PermissionsExt;

    let home = Home::installed();
    let (place, target) = (home.beside("bundle"), Target::host().unwrap());
    let program = home.beside("program");
    fs::copy(env!("CARGO_BIN_EXE_gem-setup"), &program).unwrap();
    for (umask, mode) in [("077", 0o600), ("000", 0o666)] {
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
        let script = format!("umask {umask}; exec \"$@\"");
        let words = ["-c", &script, "sh", env!("CARGO_BIN_EXE_gem-setup"), "--home"];
        let create = home.program("sh").args(words).arg(home.path());
        create
            .args(["bundle", "create", "--model", "--program"])
            .arg(format!("{target}={}", program.display()))
            .arg(&place)
            .ok();
        let mut paths: Vec<PathBuf> = tree(&place, &[]).into_keys().map(|path| place.join(path)).collect();
        paths.push(place.clone());
        assert!(paths.len() > 8, "{paths:?}");
        for path in paths {
            let is_program = path.is_dir() || path.ends_with(format!("gem-setup/{target}/gem-setup"));
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
            assert_eq!(
                mode,
                if is_program { 0o755 } else { 0o644 },
                "{umask}: {}",
                path.display()
            );
        }
        fs::remove_dir_all(&place).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_bundle_in_the_making_writes_through_no_link() {
    use std::os::unix::fs::symlink;

    let home = Home::installed();
    let root = home.beside("bundle.tar.files");
    let lit = root.join(Home::LIT.trim_start_matches('/'));
    fs::create_dir_all(lit.parent().unwrap()).unwrap();
    for path in ["bundle.unfinished", "catalog.toml", "SHA256SUMS", "targets.json"] {
        symlink(home.beside("precious"), root.join(path)).unwrap();
    }
    fs::write(home.beside("precious"), "precious").unwrap();
    let run = home.gem(&["bundle", "create"]).arg(home.beside("bundle.tar")).run();
    assert_eq!(fs::read(home.beside("precious")).unwrap(), b"precious", "{run:#?}");
    assert_eq!(run.status, 2, "{run:#?}");
    assert_says(&run.stderr, &["is not a regular file"]);
}

#[cfg(unix)]
#[test]
fn wheels_of_an_earlier_bundle_are_neither_listed_nor_pinned() {
    let Some((home, wheels)) = with_wheel() else { return };
    let place = home.beside("bundle");
    let make = || {
        let create = home.gem(&["bundle", "create", "--runtime", "litert-lm", "--catalog"]);
        let create = create.arg(home.catalog()).arg(&place);
        create.env("PIP_NO_INDEX", "1").env("PIP_FIND_LINKS", &wheels).ok();
        let listed = fs::read_to_string(place.join("SHA256SUMS")).unwrap();
        let wheels = listed.lines().filter_map(|line| line.split_once("  wheels/litert_lm-"));
        let versions: Vec<_> = wheels
            .map(|(_, name)| name.split('-').next().unwrap().to_owned())
            .collect();
        (versions, fs::read_to_string(place.join("catalog.toml")).unwrap())
    };
    assert_eq!(make().0, ["0.18.1"]);
    fs::remove_file(wheels.join("litert_lm-0.18.1-py3-none-any.whl")).unwrap();
    make_wheel(&wheels, "0.18.2");
    let text = fs::read_to_string(home.catalog()).unwrap();
    fs::write(home.catalog(), text.replace("0.18.1", "0.18.2")).unwrap();
    // As after a kill.
    fs::write(place.join("bundle.unfinished"), "").unwrap();
    let (versions, catalog) = make();
    assert_eq!(versions, ["0.18.2"]);
    assert!(!catalog.contains("0.18.1"), "{catalog}");
    assert_eq!(catalog.matches("sha256").count(), 1, "{catalog}");
    // Wheels that are there are not downloaded again.
    fs::remove_file(wheels.join("litert_lm-0.18.2-py3-none-any.whl")).unwrap();
    assert_eq!(make(), (versions, catalog));
}

#[cfg(unix)]
#[test]
fn the_printed_command_can_be_pasted() {
    let (_first, _bundle, printed) = bundle("bundle.tar", &[]);
    let commands: Vec<&str> = printed.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    assert!(commands.last().unwrap().starts_with("gem-setup/"), "{printed}");
    let home = Home::new();
    let script = format!("{} --json --no-start --port {}", commands.join(" && "), home.port);
    let run = home.program("sh").args(["-c", &script]);
    assert!(run.ok().changed().contains(&"model".to_owned()));
}

#[test]
fn terms_are_accepted_again_on_the_other_machine() {
    let (_first, bundle, _) = bundle("bundle.tar", &[]);
    let home = Home::new();
    home.gem(&["install", "--json", "--no-start", "--bundle"])
        .arg(&bundle)
        .ends(3);
    assert!(!home.layout().terms_file().exists());
}

/// A tar file of `entries`, with their names written unchanged.
pub(super) fn tar_of(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, kind, content) in entries {
        let mut header = Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        let is_file = *kind == EntryType::Regular;
        if !is_file {
            header.set_link_name(content).unwrap();
        }
        let content = if is_file { content.as_bytes() } else { b"" };
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// `bundle create` for the built-in classifier, which needs no downloads.
pub(super) fn create(home: &Home, name: &str, targets: &str) -> Gem {
    home.gem(&[
        "bundle",
        "create",
        "--json",
        "--runtime",
        "builtin",
        "--target",
        targets,
    ])
    .arg(home.beside(name))
}

#[test]
fn other_content_continues_an_unfinished_bundle() {
    let home = Home::new();
    for name in ["bundle", "bundle.tar"] {
        let create = |options: &[&str]| {
            let create = home.gem(&["bundle", "create", "--mirror", &home.mirror.url(), "--catalog"]);
            create.arg(home.catalog()).arg(home.beside(name)).args(options)
        };
        // The model was not pulled, so this one fails after its downloads.
        let unfinished = || create(&["--runtime", "lit", "--model", "--accept-terms"]).ends(7);
        unfinished();
        let asked = home.mirror.asked().len();
        unfinished();
        assert_eq!(
            home.mirror.asked().len(),
            asked,
            "{name}: a finished file was fetched again"
        );
        create(&["--runtime", "builtin"]).ok();
        home.gem(&["bundle", "verify"]).arg(home.beside(name)).ok();
    }
    assert!(!home.beside("bundle.tar.files").exists());
}

#[test]
fn a_bundle_continues_once_foreign_files_are_deleted() {
    let home = Home::new();
    let target = Target::host().unwrap().to_string();
    let place = home.beside("bundle");
    fs::create_dir(&place).unwrap();
    for name in ["bundle.unfinished", "notes"] {
        fs::write(place.join(name), "mine").unwrap();
    }
    let run = create(&home, "bundle", &target).ends(6);
    assert_says(&run.stderr, &["`notes` is not listed", "delete the files"]);
    fs::remove_file(place.join("notes")).unwrap();
    create(&home, "bundle", &target).ok();
}

/// A platform other than this machine's.
fn foreign() -> Target {
    let host = Target::host().unwrap();
    Target::ALL.into_iter().find(|target| target.os != host.os).unwrap()
}

/// The targets in the JSON of `run`, and whether each has a gem-setup.
fn programs(run: &Run) -> Vec<(String, bool)> {
    let told = run.json()["targets"].as_array().unwrap().clone();
    let told = told
        .iter()
        .map(|told| (told["target"].as_str().unwrap().to_owned(), told["program"].is_string()));
    told.collect()
}

#[test]
fn platforms_without_gem_setup_are_named_and_can_get_one() {
    let home = Home::new();
    let (host, foreign) = (Target::host().unwrap(), foreign());
    let both = format!("{host},{foreign}");
    let named = |is_foreign_there| [(host.to_string(), true), (foreign.to_string(), is_foreign_there)];
    assert_eq!(programs(&create(&home, "bundle", &both).ok()), named(false));
    let verify = |more: &[&str]| {
        home.gem(&["bundle", "verify"])
            .args(more)
            .arg(home.beside("bundle"))
            .ok()
    };
    assert_eq!(programs(&verify(&["--json"])), named(false));
    assert_says(
        &verify(&[]).stdout,
        &["not gem-setup itself", &format!("--program {foreign}=FILE")],
    );

    // From the catalog.
    let text = fs::read_to_string(home.catalog()).unwrap();
    let own = format!(
        "{text}[gem-setup]\nversion = \"9.9.9\"\n[[gem-setup.artifact]]\ntarget = \"{foreign}\"\nurl = \"https://github.com/x/own\"\nsha256 = \"{}\"\n",
        sha256_hex(b"own")
    );
    fs::write(home.catalog(), own).unwrap();
    home.mirror.publish("/x/own", b"own".to_vec());
    let run = create(&home, "fetched.tar", &both).args(["--mirror", &home.mirror.url(), "--catalog"]);
    assert_eq!(programs(&run.arg(home.catalog()).ok()), named(true));
}

#[test]
fn a_given_gem_setup_must_be_for_its_platform() {
    let home = Home::new();
    let (host, foreign) = (Target::host().unwrap(), foreign());
    let both = format!("{host},{foreign}");
    let program = env!("CARGO_BIN_EXE_gem-setup");
    let given = |target: Target, targets: &str| {
        create(&home, "given", targets)
            .arg("--program")
            .arg(format!("{target}={program}"))
    };
    let refused = given(foreign, &both).ends(2);
    assert_says(&refused.stderr, &[&format!("it runs on {host}")]);
    assert_says(
        &given(host, &foreign.to_string()).ends(2).stderr,
        &["not for that platform"],
    );
    given(host, &both).ok();
}

#[test]
fn a_bundle_for_other_platforms_is_refused() {
    let home = Home::new();
    create(&home, "bundle.tar", &foreign().to_string()).ok();
    let run = install(&home, &home.beside("bundle.tar")).ends(4);
    let error = run.result()["error"].to_string();
    assert_says(
        &error,
        &[&format!("the bundle is for {}", foreign()), "bundle create --target"],
    );
    // A plan for another machine judges by that one.
    let plan = |target: &str| install(&home, &home.beside("bundle.tar")).args(["--dry-run", "--target", target]);
    plan(&foreign().to_string()).ok();
    plan(&Target::host().unwrap().to_string()).ends(4);
    home.assert_untouched();
}

#[test]
fn a_bundle_is_not_made_in_a_foreign_directory() {
    let home = Home::installed();
    let place = home.beside("taken");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("mine"), "").unwrap();
    let run = home.gem(&["bundle", "create"]).arg(&place).ends(2);
    assert_says(&run.stderr, &["is not empty and not a bundle"]);
    assert_eq!(fs::read_dir(&place).unwrap().count(), 1);
}

#[test]
fn a_bundle_and_other_sources_exclude_each_other() {
    let home = Home::new();
    for other in [["--mirror", "https://mirror.example"], ["--catalog", "Cargo.toml"]] {
        home.gem(&["install", "--bundle", "b.tar"]).args(other).ends(2);
    }
    home.gem(&["install", "--bundle", "missing.tar"]).ends(2);
    home.assert_untouched();
}

#[test]
fn a_bundle_replaces_only_a_bundle() {
    let home = Home::new();
    let target = Target::host().unwrap().to_string();
    let directory = home.beside("isos");
    fs::create_dir_all(directory.join("sub")).unwrap();
    let list = |files: &[(&str, &str)]| -> String {
        let lines = files
            .iter()
            .map(|(path, content)| format!("{}  {path}\n", sha256_hex(content.as_bytes())));
        lines.collect()
    };
    let files = [("sub/ubuntu.iso", "precious"), ("catalog.toml", "p2")];
    for (path, content) in files {
        fs::write(directory.join(path), content).unwrap();
    }
    for (sums, named) in [
        (list(&files), "catalog.toml"),
        (list(&files[1..]), "sub/ubuntu.iso"),
        ("no list".to_owned(), "SHA256SUMS"),
        (String::new(), "catalog.toml"),
    ] {
        fs::write(directory.join("SHA256SUMS"), sums).unwrap();
        let before = tree(&directory, &[]);
        assert_says(&create(&home, "isos", &target).ends(2).stderr, &[named]);
        assert_eq!(tree(&directory, &[]), before);
    }
    // A bundle is made again, unless a file was added or changed.
    create(&home, "bundle", &format!("{target},{}", foreign())).ok();
    fs::write(home.beside("bundle").join("notes.txt"), "mine").unwrap();
    assert_says(&create(&home, "bundle", &target).ends(2).stderr, &["`notes.txt`"]);
    fs::remove_file(home.beside("bundle").join("notes.txt")).unwrap();
    let program = home.beside("bundle").join("gem-setup");
    fs::remove_dir_all(program).unwrap();
    create(&home, "bundle", &target).ok();
    home.gem(&["bundle", "verify"]).arg(home.beside("bundle")).ok();
}

#[test]
fn a_bundle_file_replaces_only_a_bundle_file() {
    let home = Home::new();
    let target = Target::host().unwrap().to_string();
    let at = |name: &str| home.beside("out").join(name);
    fs::create_dir(at("")).unwrap();
    fs::write(at("thesis.tar"), "my thesis").unwrap();
    let alone = tar_of(&[("catalog.toml", EntryType::Regular, "format = 1\n")]);
    fs::write(at("other.tar"), alone).unwrap();
    fs::create_dir(at("directory.tar")).unwrap();
    fs::create_dir(at("mine.tar.files")).unwrap();
    fs::write(at("mine.tar.files").join("notes"), "mine").unwrap();
    let before = tree(&at(""), &[]);
    for name in ["thesis.tar", "other.tar", "directory.tar", "mine.tar"] {
        assert_says(&create(&home, &format!("out/{name}"), &target).ends(2).stderr, &[name]);
    }
    // An invalid signing key is noticed only at the end.
    create(&home, "out/new.tar", &target)
        .args(["--sign", at("thesis.tar").to_str().unwrap()])
        .ends(2);
    assert_eq!(tree(&at(""), &[]), before);
    create(&home, "out/new.tar", &target).ok();
    create(&home, "out/new.tar", &target).ok();
    assert!(!at("new.tar.files").exists());
}

#[test]
fn a_model_that_is_not_in_the_bundle_is_not_pulled() {
    for name in ["bundle.tar", "bundle"] {
        let first = Home::installed();
        let bundle = first.beside("medium").join(name);
        first.gem(&["bundle", "create"]).arg(&bundle).ok();
        let home = Home::new();
        for more in [&["--dry-run"][..], &[]] {
            let run = install(&home, &bundle).args(more).ends(2);
            assert_says(
                &run.result()["error"].to_string(),
                &["is not in the bundle", "--no-model"],
            );
            assert_eq!(home.invocations("pull"), 0);
        }
        assert!(!home.layout().terms_file().exists());
        install(&home, &bundle).arg("--no-model").ok();
    }
}

#[cfg(unix)]
#[test]
fn litert_lm_without_a_model_in_the_bundle_ends_before_any_change() {
    use std::os::unix::fs::PermissionsExt;

    use super::harness::MODEL;

    let home = Home::new();
    let (bin, bundle) = (home.beside("bin"), home.beside("my medium"));
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("litert-lm"), "#!/bin/sh\necho 'litert-lm, version 9.1'\n").unwrap();
    fs::set_permissions(bin.join("litert-lm"), fs::Permissions::from_mode(0o755)).unwrap();
    let catalog = format!(
        "format = 1\n[runtime.litert-lm]\nversion = \"9.1\"\n[[model]]\nname = \"{MODEL}\"\n\
         huggingface = {{ repo = \"owner/name\", file = \"m.litertlm\" }}\n"
    );
    home.write(&bundle.join("catalog.toml"), &catalog);
    let sums = format!("{}  catalog.toml\n", sha256_hex(catalog.as_bytes()));
    home.write(&bundle.join("SHA256SUMS"), &sums);
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let install = || {
        install(&home, &bundle)
            .args(["--runtime", "litert-lm"])
            .env("PATH", &path)
    };
    let run = install().ends(2);
    let command = format!("gem-setup install --no-model --bundle '{}'", bundle.display());
    let error = run.result()["error"].to_string();
    assert_says(
        &error,
        &["is not in the bundle", &command, "--model-file FILE", "bundle create"],
    );
    home.assert_untouched();
    install().arg("--no-model").ok();
}

#[test]
fn a_compressed_bundle_is_not_made_nor_called_damaged() {
    let home = Home::installed();
    for name in ["b.tgz", "b.tar.gz", "B.TAR.ZST", "b.zip"] {
        let place = home.beside(name);
        let run = home.gem(&["bundle", "create"]).arg(&place).ends(2);
        assert_says(&run.stderr, &["is the suffix of a compressed file", "name it `b.tar`"]);
        assert!(!place.exists());
    }
    let place = home.beside("bundle.tar");
    for (start, kind) in [(b"\x1f\x8b\x08\0".as_slice(), "gzip"), (b"\x28\xb5\x2f\xfd", "zstd")] {
        fs::write(&place, [start, &[0; 2048]].concat()).unwrap();
        let run = home.gem(&["bundle", "verify"]).arg(&place).ends(6);
        assert_says(&run.stderr, &["it is compressed", kind, "unpack it first"]);
    }
}
