//! Mirrors: the requests they get, and the reports about them.

use std::fs;

use gem_setup_support::fault::FaultServer;

use super::harness::{Home, MODEL, Run, executable, tree};

#[test]
fn a_mirrors_login_is_sent_only_to_the_mirror() {
    const SECRET: &str = "s3cretOfTheMirror";
    let home = Home::new();
    let server = FaultServer::start(executable());
    let mirror = server.url().replace("://", &format!("://ann:{SECRET}@"));
    let port = home.port.to_string();
    let install = |more: &[&str]| {
        home.gem(&[
            "install",
            "--port",
            &port,
            "--no-model",
            "--no-settings",
            "--no-start",
            "-vv",
            "--mirror",
            &mirror,
        ])
        .args(["--mirror-only", "--catalog"])
        .arg(home.catalog())
        .args(more)
        .ok()
    };
    let runs = [
        install(&["--dry-run"]),
        install(&["--dry-run", "--json"]),
        install(&["--json"]),
        home.gem(&["doctor", "--network", "--json"]).run(),
    ];
    assert!(server.asked()[0].header("authorization").is_some());
    for run in &runs {
        assert!(!format!("{run:?}").contains(SECRET), "{run:#?}");
    }
    let kept = home.layout().mirrors_file();
    for (path, file) in tree(&home.path(), &[]) {
        let bytes = file.map(|(bytes, _)| bytes).unwrap_or_default();
        let holds = String::from_utf8_lossy(&bytes).contains(SECRET);
        assert_eq!(holds, home.path().join(&path) == kept, "{}", path.display());
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    }
    // The mirror's address is recorded.
    let asked = server.asked().len();
    assert_eq!(runs[3].check("network.runtime")["status"], "ok");
    assert_eq!(asked, 2, "one download, one probe");
    // So is its login, for commands without the option.
    fs::remove_file(home.lit()).unwrap();
    home.gem(&["install", "--no-model", "--no-settings", "--no-start"]).ok();
    assert!(server.asked().last().unwrap().header("authorization").is_some());
    home.gem(&["uninstall"]).ok();
    assert!(!kept.exists());
}

#[test]
fn a_file_of_logins_that_cannot_be_read_is_named_and_kept() {
    let home = Home::new();
    let server = FaultServer::start(executable());
    let mirror = server.url().replace("://", "://ann:s3cret@");
    let port = home.port.to_string();
    let words = ["install", "--no-model", "--no-settings", "--no-start", "--port", &port];
    let install = |more: &[&str]| home.gem(&words).args(more);
    install(&["--mirror", &mirror, "--mirror-only", "--catalog"])
        .arg(home.catalog())
        .ok();
    let kept = home.layout().mirrors_file();
    let whole = fs::read(&kept).unwrap();
    for damaged in [[&whole[..], b"\xff"].concat(), [b"#", &whole[..]].concat()] {
        fs::write(&kept, &damaged).unwrap();
        for command in [&["install", "--force"][..], &["doctor"], &["settings", "apply"]] {
            let run = home.gem(command).run();
            assert_ne!(run.status, 0, "{run:#?}");
            let said = format!("{}{}", run.stdout, run.stderr);
            assert!(said.contains("gem-setup/mirrors`"), "{run:#?}");
            assert!(!said.contains("s3cret"), "{run:#?}");
            assert_eq!(fs::read(&kept).unwrap(), damaged);
        }
    }
    fs::write(&kept, &whole).unwrap();
    install(&["--force"]).ok();
    assert!(server.asked().last().unwrap().header("authorization").is_some());
    fs::write(&kept, b"\xff").unwrap();
    home.gem(&["uninstall"]).ok();
    assert!(!kept.exists());
}

/// A URL with a login where none can be used, and one that is none.
const URL: &str = "http://user:s3cret@host.example/x";
const NO_URL: &str = "http://user:s3cret@host:99999";

#[track_caller]
fn assert_hidden(run: &Run) {
    assert!(!format!("{run:?}").contains("s3cret"), "{run:#?}");
}

#[test]
fn no_error_shows_the_login_in_a_variable() {
    let home = Home::installed();
    for (name, value) in [
        ("HF_ENDPOINT", URL),
        ("HF_ENDPOINT", "user:s3cret@host"),
        ("HF_ENDPOINT", NO_URL),
        ("HTTPS_PROXY", "x://user:s3cret@host"),
        ("HTTP_PROXY", NO_URL),
        ("SSL_CERT_FILE", URL),
        ("NETRC", URL),
    ] {
        for words in [
            &["install", "--force", "--json"][..],
            &["install", "--force"],
            &["doctor", "--network"],
        ] {
            assert_hidden(&home.gem(words).env(name, value).run());
        }
    }
}

#[test]
fn no_error_shows_the_login_in_an_option() {
    let home = Home::installed();
    let config = home.layout().own().join("config.toml");
    let of_install = [
        "catalog",
        "catalog-url",
        "catalog-key",
        "bundle",
        "ca-cert",
        "model-file",
        "public-key",
        "model",
        "port",
    ];
    let of_start = [
        "token-file",
        "upstream-key-file",
        "tls-cert",
        "models",
        "listen",
        "behind-proxy",
    ];
    let install = of_install.map(|option| ("install", option, URL)).into_iter();
    let start = of_start.map(|option| ("start", option, URL));
    let urls = [("install", "mirror", NO_URL), ("start", "upstream", NO_URL)];
    for (command, option, value) in install.chain(start).chain(urls) {
        let key = option.replace('-', "_");
        let run = |words: &[&str]| home.gem(&[command]).args(words);
        assert_hidden(&run(&[&format!("--{option}"), value]).run());
        assert_hidden(&run(&["--json", &format!("--{option}={value}")]).run());
        assert_hidden(&run(&[]).env(&format!("GEM_SETUP_{}", key.to_uppercase()), value).run());
        fs::write(&config, format!("{key} = \"{value}\"\n")).unwrap();
        assert_hidden(&run(&[]).run());
        assert_hidden(&run(&["--json"]).run());
        assert_hidden(&home.gem(&["stop"]).run());
        fs::remove_file(&config).unwrap();
    }
}

#[test]
fn no_error_shows_the_login_in_an_argument() {
    let home = Home::installed();
    for words in [
        ["bundle", "verify"],
        ["bundle", "create"],
        ["pull", "--model-file"],
        ["route", "--history"],
    ] {
        assert_hidden(&home.gem(&words).arg(URL).run());
    }
}

#[test]
fn a_file_missing_on_a_disk_mirror_is_no_network_fault() {
    let home = Home::new();
    fs::create_dir(home.beside("empty")).unwrap();
    let mirror = url::Url::from_directory_path(home.beside("empty")).unwrap();
    let run = home
        .gem(&["install", "--json", "--accept-terms", "--no-start", "--mirror-only"])
        .args(["--mirror", mirror.as_str(), "--catalog"])
        .arg(home.catalog())
        .ends(5);
    let hint = run.result()["error"]["hint"].as_str().unwrap().to_owned();
    assert!(hint.contains("on disk") && !hint.contains("network"), "{hint}");
}

#[test]
fn a_bundle_with_the_model_is_enough_for_another_machine() {
    let first = Home::new();
    first.install(&["--no-start"]).ok();
    let bundle = first.beside("bundle");
    let made = first
        .gem(&["bundle", "create", "--model", "--mirror", &first.mirror.url()])
        .arg(&bundle)
        .ok();
    // Runs the printed command as it was printed.
    let told: Vec<_> = made.stdout.lines().last().unwrap().split_whitespace().skip(1).collect();

    let second = Home::new();
    let install = |more: &[&str]| {
        second
            .gem(&told)
            .args(["--json", "--no-start", "--port"])
            .arg(second.port.to_string())
            .args(more)
            // A port without a listener, and a runtime that cannot pull.
            .env("HTTPS_PROXY", "http://127.0.0.1:9")
            .env("STAND_IN_PULL", "fail")
    };
    assert!(told.contains(&"--accept-terms"), "{told:?}");
    let run = install(&[]).ok();
    assert!(run.changed().contains(&"model".to_owned()), "{run:#?}");
    assert_eq!(second.invocations("pull"), 0);
    let model = |home: &Home| {
        let files = tree(&home.layout().models().join(MODEL), &[]);
        let bytes = |file: Option<(Vec<u8>, _)>| file.map(|(bytes, _)| bytes);
        files
            .into_iter()
            .map(|(path, file)| (path, bytes(file)))
            .collect::<Vec<_>>()
    };
    assert_eq!(model(&second), model(&first));
    assert_eq!(install(&[]).ok().changed(), Vec::<String>::new());

    // A bundle that was damaged on the way is refused.
    let file = fs::read_dir(bundle.join("models").join(MODEL)).unwrap().next().unwrap();
    fs::write(file.unwrap().path(), "damaged").unwrap();
    install(&["--force"]).ends(6);
    assert_eq!(model(&second), model(&first));
}
