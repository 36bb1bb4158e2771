//! Mirrors: the requests they get, and the reports about them.

use std::fs;

use gem_setup_support::fault::FaultServer;

use super::harness::{Home, MODEL, executable, tree};

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

#[test]
fn no_error_shows_the_login_of_a_url_that_cannot_be_used() {
    const URL: &str = "http://user:s3cret@host.example/x";
    let home = Home::installed();
    let config = home.layout().own().join("config.toml");
    let mut runs = Vec::new();
    for (name, value) in [
        ("HF_ENDPOINT", URL),
        ("HF_ENDPOINT", "user:s3cret@host"),
        ("HF_ENDPOINT", "http://user:s3cret@host:99999"),
        ("HTTPS_PROXY", "x://user:s3cret@host"),
        ("HTTP_PROXY", "http://user:s3cret@host:99999"),
        ("SSL_CERT_FILE", URL),
        ("NETRC", URL),
    ] {
        runs.push(home.gem(&["install", "--force", "--json"]).env(name, value).run());
        runs.push(home.gem(&["install", "--force"]).env(name, value).run());
        runs.push(home.gem(&["doctor", "--network"]).env(name, value).run());
    }
    for option in [
        "mirror",
        "catalog",
        "catalog-url",
        "catalog-key",
        "bundle",
        "ca-cert",
        "model-file",
        "public-key",
        "model",
        "port",
    ] {
        let value = if option == "mirror" {
            "http://user:s3cret@host:99999"
        } else {
            URL
        };
        runs.push(home.gem(&["install", &format!("--{option}"), value]).run());
        runs.push(home.gem(&["install", "--json", &format!("--{option}={value}")]).run());
        let variable = format!("GEM_SETUP_{}", option.replace('-', "_").to_uppercase());
        runs.push(home.gem(&["install"]).env(&variable, value).run());
        fs::write(&config, format!("{} = \"{value}\"\n", option.replace('-', "_"))).unwrap();
        runs.push(home.gem(&["install"]).run());
        runs.push(home.gem(&["install", "--json"]).run());
        fs::remove_file(&config).unwrap();
    }
    for option in [
        "upstream",
        "token-file",
        "upstream-key-file",
        "tls-cert",
        "models",
        "listen",
        "behind-proxy",
    ] {
        let value = if option == "upstream" {
            "http://user:s3cret@host:99999"
        } else {
            URL
        };
        runs.push(home.gem(&["serve", &format!("--{option}"), value]).run());
        let variable = format!("GEM_SETUP_{}", option.replace('-', "_").to_uppercase());
        runs.push(home.gem(&["start"]).env(&variable, value).run());
        runs.push(home.gem(&["stop"]).run());
        fs::write(&config, format!("{} = \"{value}\"\n", option.replace('-', "_"))).unwrap();
        runs.push(home.gem(&["start"]).run());
        runs.push(home.gem(&["stop"]).run());
        fs::remove_file(&config).unwrap();
    }
    for words in [
        ["bundle", "verify"],
        ["bundle", "create"],
        ["pull", "--model-file"],
        ["route", "--history"],
        ["man", ""],
    ] {
        runs.push(home.gem(&words).arg(URL).run());
    }
    let shows = |run: &&super::harness::Run| format!("{run:?}").contains("s3cret");
    let shown: Vec<_> = runs.iter().filter(shows).collect();
    assert!(shown.is_empty(), "{shown:#?}");
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
