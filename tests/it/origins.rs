//! What is around the program: variables that break a server, ports of root, names that Gemini CLI expands; and what `-v` says.

use std::fs;
use std::os::unix::fs::chown;

use super::harness::{Home, assert_says};

const BUILTIN: [&str; 3] = ["install", "--runtime", "builtin"];

#[test]
fn certificates_that_keep_the_server_from_starting_are_found_first() {
    for file in ["/nope", "/dev/null", "empty.pem"] {
        let home = Home::new();
        fs::write(home.work().join("empty.pem"), "").unwrap();
        let port = home.port.to_string();
        for more in [["--dry-run"].as_slice(), &[]] {
            let run = home
                .gem(&BUILTIN)
                .args(["--port", &port])
                .args(more)
                .env("SSL_CERT_FILE", file)
                .ends(2);
            assert_says(&run.stderr, &["cannot start the server", file, "unset SSL_CERT_FILE"]);
            assert_eq!(run.stderr.matches("cannot use the certificates").count(), 1, "{run:#?}");
        }
        home.assert_untouched();
        home.gem(&BUILTIN).args(["--port", &port, "--no-start"]).ok();
        let run = home.gem(&["doctor"]).env("SSL_CERT_FILE", file).ends(10);
        assert_says(&run.stdout, &["FAIL server.process", "unset SSL_CERT_FILE"]);
        assert!(!run.stdout.contains("gem-setup start"), "{run:#?}");
        let run = home.gem(&["start"]).env("SSL_CERT_FILE", file).ends(2);
        assert_says(&run.stderr, &["unset SSL_CERT_FILE"]);
        home.gem(&["start"]).ok();
    }
}

#[test]
fn a_file_of_variables_that_names_the_certificates_is_named() {
    let home = Home::new();
    home.write(&home.layout().gemini().join(".env"), "SSL_CERT_FILE=/nope\n");
    let run = home
        .gem(&BUILTIN)
        .args(["--port", &home.port.to_string(), "--dry-run"])
        .ends(2);
    assert_says(&run.stderr, &["/nope", "unset SSL_CERT_FILE", ".gemini/.env"]);
}

#[test]
fn other_variables_of_certificates_are_warned_of() {
    let home = Home::new();
    for variable in ["SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"] {
        let run = home
            .gem(&BUILTIN)
            .args(["--dry-run", "--no-start"])
            .env(variable, "/nope")
            .ok();
        assert_says(&run.stderr, &["warning", "/nope", variable]);
    }
}

#[test]
fn a_port_of_root_is_found_first() {
    const ACCOUNT: u32 = 61_018;
    let start = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    let start: u16 = start.trim().parse().unwrap();
    if !rustix::process::geteuid().is_root() || start < 444 {
        eprintln!("not tested: takes root, and ports of root");
        return;
    }
    let home = Home::new();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(home.path().parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    [home.path(), home.work()]
        .iter()
        .for_each(|path| chown(path, Some(ACCOUNT), Some(ACCOUNT)).unwrap());
    let account = ACCOUNT.to_string();
    let gem = |args: &[&str]| {
        let user = ["--reuid", &account, "--regid", &account, "--clear-groups"];
        home.program("setpriv")
            .args(user)
            .arg(env!("CARGO_BIN_EXE_gem-setup"))
            .args(args)
    };
    for more in [["--dry-run"].as_slice(), &[]] {
        let run = gem(&BUILTIN).args(["--port", "443"]).args(more).ends(9);
        assert_says(&run.stderr, &["port 443", "only root", "gem-setup install --port "]);
        let (_, rest) = run.stderr.split_once("install --port ").unwrap();
        let port: u16 = rest
            .split(|c: char| !c.is_ascii_digit())
            .next()
            .unwrap()
            .parse()
            .unwrap();
        assert!(port >= 1024, "{run:#?}");
    }
    home.assert_untouched();
    gem(&BUILTIN).args(["--port", &home.port.to_string()]).ok();
    let before = gem(&["status", "--json"]).run().json()["pid"].clone();
    let run = gem(&["restart", "--port", "443"]).ends(9);
    assert_says(&run.stderr, &["cannot restart the server: port 443", "only root"]);
    assert_eq!(gem(&["status", "--json"]).run().json()["pid"], before);
    gem(&["stop"]).ok();
    gem(&BUILTIN).args(["--port", "443", "--no-start"]).run();
    let run = gem(&["doctor"]).ends(10);
    assert_says(
        &run.stdout,
        &["FAIL server.port", "only root", "gem-setup install --port "],
    );
    assert!(!run.stdout.contains("gem-setup start"), "{run:#?}");
}

/// A running server is not stopped for a port that another program has.
#[test]
fn a_taken_port_is_found_before_the_server_is_stopped() {
    let home = Home::new();
    let port = home.port.to_string();
    home.gem(&BUILTIN).args(["--port", &port, "--no-smoke"]).ok();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let other = taken.local_addr().unwrap().port().to_string();
    let run = home.gem(&BUILTIN).args(["--port", &other, "--no-smoke"]).ends(9);
    assert_says(&run.stderr, &[&format!("port {other} is taken")]);
    home.gem(&["status"]).ok();
}

#[test]
fn a_home_whose_name_holds_a_variable_works() {
    let home = Home::new();
    for name in ["a$HOME", "b${NAME}", "c$$NAME$", "d$UNSET"] {
        let place = home.beside(name);
        fs::create_dir(&place).unwrap();
        let gem = |args: &[&str]| {
            home.program(env!("CARGO_BIN_EXE_gem-setup"))
                .env("NAME", "x")
                .arg("--home")
                .arg(&place)
                .args(args)
        };
        let more = ["--no-start", "--json"];
        gem(&BUILTIN).args(more).ok();
        let again = gem(&BUILTIN).args(more).ok();
        assert_eq!(again.step("settings"), "ok", "{again:#?}");
        let text = fs::read_to_string(place.join(".gemini/settings.json")).unwrap();
        assert_eq!(text.contains("${GEM_SETUP_DOLLAR:-$}"), name != "d$UNSET", "{text}");
        let shown = gem(&["settings", "show", "--json"]).ok();
        assert_says(
            &shown.stdout,
            &[place.join(".gemini/gem-setup/gem-setup").to_str().unwrap()],
        );
        gem(&["uninstall"]).ok();
        assert!(!place.join(".gemini/settings.json").exists());
    }
}

#[test]
fn verbose_says_where_values_come_from() {
    let home = Home::new();
    home.gem(&BUILTIN)
        .args(["--port", &home.port.to_string(), "--no-start"])
        .ok();
    home.write(
        &home.layout().config_file(),
        "threshold = 0.4\nupstream = \"http://ann:s3cret@127.0.0.1:1/\"\n",
    );
    let commands: [&[&str]; 5] = [
        &["status"],
        &["doctor"],
        &["list"],
        &["settings", "show"],
        &["versions"],
    ];
    for command in commands {
        let run = home.gem(command).arg("-v").run();
        assert_says(
            &run.stderr,
            &[
                "verbose: home = ",
                "from the flag",
                &format!("port = {}, from the record", home.port),
                "read `",
                "config.toml`",
                "state.json`",
            ],
        );
        assert!(!home.gem(command).run().stderr.contains("verbose:"));
    }
    let run = home
        .gem(&["start", "-v", "--drain-timeout", "3"])
        .env("GEM_SETUP_ACCOUNT", "login")
        .ok();
    assert_says(
        &run.stderr,
        &[
            "drain-timeout = 3, from the command line",
            "account = login, from the variable `GEM_SETUP_ACCOUNT`",
            "threshold = 0.4, from `threshold` in `",
        ],
    );
    assert!(!run.stderr.contains("s3cret"), "{run:#?}");
}
