//! `install` with faults: each has its own status and a message with the path or URL and the next step. No partial file remains, and
//! existing files stay.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use gem_setup_support::mirror::sha256_hex;

use super::harness::{Gem, Home, MODEL, Run, assert_same, assert_says, executable, free_port, tree, wait_until};

/// Runs `gem`, which must fail with this status and these words in its message.
#[track_caller]
fn failure(gem: Gem, status: i32, words: &[&str]) -> Run {
    let run = gem.ends(status);
    let error = run.result()["error"].clone();
    assert_eq!(error["exit"], status, "{run:#?}");
    let (message, hint) = (error["message"].as_str().unwrap(), error["hint"].as_str().unwrap());
    assert_says(message, words);
    assert!(!hint.is_empty(), "no next step: {run:#?}");
    assert_says(&run.stderr, &[message, hint]);
    run
}

/// No runtime under any name, complete or partial; an empty file does not count.
#[track_caller]
fn assert_nothing_downloaded(home: &Home) {
    let files = tree(&home.path(), &["lock"]).into_iter();
    let found: Vec<_> = files
        .filter(|(_, file)| file.as_ref().is_some_and(|(bytes, _)| !bytes.is_empty()))
        .collect();
    assert!(found.is_empty(), "{found:?}");
    assert!(!home.lit().exists());
}

#[test]
fn a_wrong_hash_leaves_no_file_and_shows_both_hashes() {
    let home = Home::new();
    let expected = "5".repeat(64);
    home.write_catalog(&expected, None);
    let found = sha256_hex(&executable());
    failure(home.install(&[]), 6, &[&home.mirror.url(), &expected, &found]);
    assert_nothing_downloaded(&home);
}

#[test]
fn a_wrong_hash_keeps_the_old_runtime() {
    let home = Home::installed();
    let before = fs::read(home.lit()).unwrap();
    home.write_catalog(&"5".repeat(64), None);
    failure(home.install(&["--no-start"]), 6, &["sha256"]);
    assert_eq!(fs::read(home.lit()).unwrap(), before);
    assert_says(&home.gem(&["list"]).ok().stdout, &[MODEL]);
}

#[test]
fn a_file_missing_on_the_mirror_is_named() {
    let home = Home::new();
    let catalog = fs::read_to_string(home.catalog()).unwrap();
    fs::write(home.catalog(), catalog.replace("/v9/", "/v10/")).unwrap();
    failure(
        home.install(&["--mirror-only"]),
        5,
        &[
            &format!("{}{}", home.mirror.url(), Home::LIT.replace("/v9/", "/v10/")),
            "404",
        ],
    );
    assert_nothing_downloaded(&home);
}

/// Answers every request with the beginning of a body.
fn truncating_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n#!/bin/sh\n");
        }
    });
    port
}

#[test]
fn a_truncated_body_is_a_failed_download() {
    let home = Home::new();
    let url = format!("http://127.0.0.1:{}", truncating_server());
    let run = failure(install_from(&home, &url), 5, &[&url, "lit.test"]);
    let command = format!("--mirror {url}/ --accept-terms --mirror-only --home");
    assert_says(
        run.result()["error"]["hint"].as_str().unwrap(),
        &["run `gem-setup install --catalog ", &command],
    );
    assert!(!home.lit().exists());
    assert!(!home.layout().state_file().exists());
}

/// `install` that asks the mirror at `url` alone.
fn install_from(home: &Home, url: &str) -> Gem {
    let words = ["install", "--json", "--accept-terms", "--mirror-only", "--mirror", url];
    home.gem(&words).arg("--catalog").arg(home.catalog())
}

#[test]
fn a_refused_connection_is_named() {
    let home = Home::new();
    let url = format!("http://127.0.0.1:{}", free_port());
    failure(install_from(&home, &url), 5, &[&url, "lit.test"]);
    assert_nothing_downloaded(&home);
}

#[test]
fn a_plain_http_mirror_elsewhere_is_refused() {
    let home = Home::new();
    let gem = home.gem(&[
        "install",
        "--json",
        "--accept-terms",
        "--mirror",
        "http://192.0.2.1",
        "--catalog",
    ]);
    failure(gem.arg(home.catalog()), 2, &["http://192.0.2.1"]);
    home.assert_untouched();
}

#[test]
fn a_directory_where_the_runtime_should_be_is_named_and_stays() {
    let home = Home::new();
    fs::create_dir_all(home.lit().join("precious")).unwrap();
    failure(home.install(&[]), 5, &[home.lit().to_str().unwrap(), "directory"]);
    assert!(home.lit().join("precious").is_dir());
    assert_eq!(home.mirror.asked(), Vec::<String>::new());
}

#[test]
fn a_file_where_the_directory_should_be_is_named_and_stays() {
    let home = Home::new();
    let bin = home.layout().gemini().join("bin");
    home.write(&bin, "precious");
    let run = home.install(&[]).run();
    assert!([1, 5].contains(&run.status), "{run:#?}");
    assert_says(
        run.result()["error"]["message"].as_str().unwrap(),
        &[bin.to_str().unwrap()],
    );
    assert_eq!(fs::read_to_string(&bin).unwrap(), "precious");
}

#[test]
fn settings_with_a_syntax_error_stop_install_before_a_download() {
    let home = Home::new();
    home.write(&home.settings(), "{\n  \"theme\": \"dark\",\n  oops\n}\n");
    let before = tree(&home.path(), &[]);
    failure(home.install(&[]), 8, &[home.settings().to_str().unwrap(), "line"]);
    assert_same(&before, &tree(&home.path(), &[]));
    assert_eq!(home.mirror.asked(), Vec::<String>::new());
}

#[test]
fn settings_without_an_object_are_left_alone() {
    for text in [
        "[]",
        "{\"experimental\": 5}",
        "{\"experimental\": {\"gemmaModelRouter\": \"on\"}}",
    ] {
        let home = Home::new();
        home.write(&home.settings(), text);
        failure(home.install(&[]), 8, &[home.settings().to_str().unwrap()]);
        assert_eq!(fs::read_to_string(home.settings()).unwrap(), text);
        assert_eq!(home.mirror.asked(), Vec::<String>::new());
    }
}

#[test]
fn a_taken_port_is_a_conflict_before_any_change() {
    let home = Home::new();
    let _other = TcpListener::bind(("127.0.0.1", home.port)).unwrap();
    let program = std::env::current_exe().unwrap();
    let program = program.file_name().unwrap().to_str().unwrap();
    let pid = std::process::id().to_string();
    failure(home.install(&[]), 9, &[&home.port.to_string()]);
    // A process that another test is starting holds this process's files until its exec.
    wait_until("the holder of the port is named", || {
        let told = home.install(&[]).ends(9).stderr;
        told.contains(&pid) && told.contains(program)
    });
    home.assert_untouched();
}

#[test]
fn another_gem_setup_at_work_is_a_conflict() {
    let home = Home::new();
    let path = home.layout().lock_file();
    home.write(&path, "4711");
    let lock = fs::File::options().write(true).open(&path).unwrap();
    lock.lock().unwrap();
    let run = failure(home.install(&[]), 9, &[path.to_str().unwrap()]);
    // No gem-setup has this process id.
    assert!(!run.result().to_string().contains("4711"), "{run:#?}");
    assert_eq!(home.mirror.asked(), Vec::<String>::new());
}

#[test]
fn two_installations_at_once_both_succeed() {
    let home = Home::new();
    let own = "{\n  // mine\n  \"theme\": \"dark\",\n}\n";
    home.write(&home.settings(), own);
    thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| home.install(&["--no-start"]).run()));
        for one in both {
            let run = one.join().unwrap();
            assert_eq!(run.status, 0, "{run:#?}");
        }
    });
    assert_eq!(home.invocations("pull"), 1);
    assert_eq!(home.mirror.asked().len(), 1);
    // The later one found everything in place; the earlier one's changes must still be on record.
    home.gem(&["uninstall"]).ok();
    assert_eq!(fs::read_to_string(home.settings()).unwrap(), own);
}

#[test]
fn an_unusable_catalog_is_a_usage_error() {
    let home = Home::new();
    fs::write(home.catalog(), "format = 1\nsurprise = true\n").unwrap();
    failure(home.install(&[]), 2, &[home.catalog().to_str().unwrap(), "surprise"]);
    fs::remove_file(home.catalog()).unwrap();
    failure(home.install(&[]), 2, &[home.catalog().to_str().unwrap()]);
    home.assert_untouched();
}

#[test]
fn a_state_file_that_does_not_parse_is_named_and_left_alone() {
    let home = Home::installed();
    let path = home.layout().state_file();
    fs::write(&path, "{ not json").unwrap();
    failure(home.install(&["--no-start"]), 1, &[path.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "{ not json");
}

#[test]
fn a_failed_start_shows_the_runtimes_output() {
    let mut home = Home::new();
    home.set("STAND_IN_SERVE", "crash-at-start");
    failure(home.install(&[]), 7, &["libvulkan.so.1"]);
    home.set("STAND_IN_SERVE", "");
    home.install(&[]).ok();
}

#[test]
fn a_smoke_test_without_an_answer_is_a_fault_of_the_runtime() {
    let mut home = Home::new();
    home.set("STAND_IN_SERVE", "errors");
    failure(home.install(&[]), 7, &["smoke test", &home.port.to_string()]);
}

/// The built-in classifier replaces a model that cannot be loaded, so only a prompt to the model shows the fault.
#[test]
fn changes_are_smoke_tested_and_failures_recorded() {
    let mut home = Home::new();
    let control = home.beside("control");
    fs::write(&control, "").unwrap();
    home.set("STAND_IN_CONTROL", control.to_str().unwrap());
    home.install(&[]).ok();
    assert_eq!(home.install(&[]).ok().step("smoke"), "ok");
    fs::write(&control, "errors").unwrap();
    fs::remove_dir_all(home.layout().models()).unwrap();
    let run = home.install(&[]);
    failure(run, 7, &["smoke test"]);
    home.gem(&["restart"]).run();
    let run = home.doctor();
    let check = run.check("server.smoke");
    assert_eq!(check["status"], "fail", "{check}");
    assert_says(
        check["detail"].as_str().unwrap(),
        &["the last test failed", "smoke test"],
    );
    assert_says(
        &home.gem(&["status"]).run().stdout,
        &["the last test failed", "gem-setup doctor"],
    );
    home.install(&["--no-start"]).ends(7);
    fs::write(&control, "").unwrap();
    home.gem(&["doctor", "--fix"]).ok();
    assert!(!home.gem(&["status"]).ok().stdout.contains("test failed"));
    assert_eq!(home.doctor().status, 0);
}

/// File systems with a fault, which only root can mount.
#[cfg(target_os = "linux")]
mod mounted {
    use std::path::Path;

    use super::{failure, fs};
    use crate::harness::{Home, Mount, assert_same, tree};

    /// A runtime of two megabytes.
    fn large_runtime() -> Vec<u8> {
        let mut bytes = super::executable();
        bytes.resize(2 << 20, b'\n');
        bytes
    }

    #[test]
    fn a_full_disk_is_named_and_leaves_no_partial_file() {
        let home = Home::publishing(&large_runtime());
        let Some(_small) = Mount::on(home.path().join(".gemini"), c"size=1m") else {
            return;
        };
        home.write(&home.settings(), "{}");
        failure(home.install(&["--no-start"]), 5, &[home.path().to_str().unwrap()]);
        assert!(!home.lit().exists());
        assert_eq!(fs::read_to_string(home.settings()).unwrap(), "{}");
    }

    #[test]
    fn a_disk_that_fills_up_is_named_and_leaves_no_partial_file() {
        let home = Home::publishing(&large_runtime());
        // Enough to begin the download, but not to complete it: the catalog does not state the file's size.
        let Some(_small) = Mount::on(home.path().join(".gemini"), c"size=1536k") else {
            return;
        };
        failure(
            home.install(&["--no-start"]),
            5,
            &["disk is full", home.path().to_str().unwrap()],
        );
        assert!(!home.lit().exists());
    }

    #[test]
    fn a_read_only_home_is_named_and_nothing_is_downloaded() {
        let home = Home::new();
        let Some(mounted) = Mount::on(home.path(), c"size=8m") else {
            return;
        };
        mounted.make_read_only();
        let run = home.install(&["--no-start"]).run();
        assert!([1, 5].contains(&run.status), "{run:#?}");
        super::assert_says(
            run.result()["error"]["message"].as_str().unwrap(),
            &[home.path().to_str().unwrap()],
        );
        home.assert_untouched();
    }

    #[test]
    fn a_read_only_runtime_directory_is_named_and_unchanged() {
        let home = Home::new();
        let Some(mounted) = Mount::on(home.layout().lit_bin(), c"size=8m") else {
            return;
        };
        fs::write(home.lit(), "an older one").unwrap();
        mounted.make_read_only();
        failure(
            home.install(&["--no-start"]),
            5,
            &[home.layout().lit_bin().to_str().unwrap()],
        );
        assert_eq!(fs::read_to_string(home.lit()).unwrap(), "an older one");
        mounted.make_writable();
        home.install(&["--no-start"]).ok();
    }

    #[test]
    fn settings_on_a_read_only_file_system_are_named() {
        let home = Home::installed();
        let dotfiles = home.beside("dotfiles");
        let Some(mounted) = Mount::on(dotfiles.clone(), c"size=1m") else {
            return;
        };
        let settings = dotfiles.join("settings.json");
        fs::write(&settings, "{}").unwrap();
        fs::remove_file(home.settings()).unwrap();
        std::os::unix::fs::symlink(&settings, home.settings()).unwrap();
        mounted.make_read_only();
        let before = tree(Path::new(&dotfiles), &[]);
        failure(home.install(&["--no-start"]), 8, &[home.settings().to_str().unwrap()]);
        assert_same(&before, &tree(Path::new(&dotfiles), &[]));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_limit_on_file_sizes_is_named_with_the_remedy() {
    // A runtime beyond the limit.
    let home = Home::publishing(&[executable(), vec![b'\n'; 2 << 20]].concat());
    let limited = |gem: Gem| gem.under(&["sh", "-c", "ulimit -f 1000; exec \"$0\" \"$@\""]);
    let says = [
        "no file may have more than",
        "kB here (`ulimit -f`)",
        "hint: raise the limit (`ulimit -f unlimited`",
    ];
    let run = limited(home.install(&["--no-start"])).ends(5);
    assert_says(&run.stderr, &says);
    home.install(&["--no-start", "--no-model"]).ok();

    // Where the size is known, nothing is begun.
    let catalog = fs::read_to_string(home.catalog()).unwrap();
    fs::write(home.catalog(), catalog + "size = 968600000\n").unwrap();
    let run = limited(home.install(&["--no-start"])).ends(5);
    assert_says(&run.stderr, &["a file of 968.6 MB belongs in", says[0], says[2]]);
    assert_eq!(home.invocations("pull"), 0);
}
