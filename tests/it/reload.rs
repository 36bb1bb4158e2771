//! Files that change while the server runs.

use std::fs;

use super::harness::{Home, assert_says, free_port, wait_until};

/// The tier of the smoke test's complex probe.
fn probe(home: &Home) -> String {
    let smoke = home.gem(&["smoke", "--json"]).ok().json();
    smoke["probes"][1]["got"].as_str().unwrap().to_owned()
}

/// The note in `status`.
fn note(home: &Home) -> String {
    let status = home.gem(&["status", "--json"]).run().json();
    status["note"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_later_models_file_is_watched_too() {
    let home = Home::new();
    let port = home.port.to_string();
    home.gem(&["install", "--runtime", "builtin", "--port", &port]).ok();
    let models = home.beside("models.toml");
    fs::write(&models, "format = 1\n").unwrap();
    home.write(
        &home.layout().config_file(),
        &format!("models = \"{}\"\n", models.display()),
    );
    wait_until("the configuration is in force", || {
        log(&home).contains("config.toml` changed and is in force")
    });
    fs::write(&models, "format = \n").unwrap();
    wait_until("the fault is told", || note(&home).contains("models.toml"));
    fs::write(&models, "format = 1\n# right again\n").unwrap();
    wait_until("nothing is left to say", || note(&home).is_empty());
}

#[test]
fn a_models_file_may_appear_after_the_configuration() {
    let home = Home::new();
    let port = home.port.to_string();
    home.gem(&["install", "--runtime", "builtin", "--port", &port]).ok();
    let models = home.beside("models.toml");
    home.write(
        &home.layout().config_file(),
        &format!("models = \"{}\"\n", models.display()),
    );
    wait_until("the fault is told", || note(&home).contains("models.toml"));
    fs::write(&models, "format = 1\n").unwrap();
    wait_until("the configuration is in force", || log(&home).contains("is in force\n"));
    assert_eq!(note(&home), "");
    assert_eq!(log(&home).matches("the former settings stay").count(), 1);
}

fn log(home: &Home) -> String {
    fs::read_to_string(home.layout().log_file()).unwrap_or_default()
}

#[test]
fn a_changed_configuration_is_in_force_without_a_restart() {
    let home = Home::new();
    let port = home.port.to_string();
    home.gem(&["install", "--runtime", "builtin", "--port", &port]).ok();
    let pid = || home.gem(&["status", "--json"]).ok().json()["pid"].clone();
    let before = pid();
    assert_eq!(probe(&home), "pro");

    let config = home.layout().config_file();
    home.write(&config, "threshold = 1.0\n");
    wait_until("the threshold is in force", || probe(&home) == "flash");
    assert_says(&log(&home), &["config.toml` changed and is in force"]);
    assert_says(&home.gem(&["start"]).ok().stdout, &["already running"]);

    home.write(&config, "threshold = 7.0\n");
    wait_until("the fault is told", || log(&home).contains("the former settings stay"));
    assert_eq!(probe(&home), "flash");
    assert_says(&note(&home), &["the former settings stay", "7"]);
    assert_eq!(log(&home).matches("the former settings stay").count(), 1);

    home.write(&config, "threshold = 0.5\nlog_requests = true\n");
    wait_until("the need of a restart is told", || {
        log(&home).contains("`log_requests` changed: run `gem-setup restart`")
    });
    assert_eq!(probe(&home), "pro");
    assert_says(&note(&home), &["`log_requests` changed", "gem-setup restart"]);

    home.write(&config, "threshold = 0.5\n");
    wait_until("nothing is left to say", || note(&home).is_empty());
    assert_eq!(pid(), before);
}

#[test]
fn an_option_that_needs_a_restart_is_named() {
    let home = Home::new();
    let port = home.port.to_string();
    home.gem(&["install", "--runtime", "builtin", "--port", &port]).ok();
    let tokens = home.beside("tokens");
    let tokens = tokens.to_str().unwrap();
    home.gem(&["token", "ada", "--token-file", tokens]).ok();
    for (line, name) in [
        (format!("token_file = \"{tokens}\"\n"), "`token_file` changed"),
        ("listen = \"::1\"\n".to_owned(), "`listen` changed"),
        ("log_requests = true\n".to_owned(), "`log_requests` changed"),
    ] {
        home.write(&home.layout().config_file(), &line);
        wait_until("status names the option", || note(&home).contains(name));
        assert_says(&note(&home), &["gem-setup restart"]);
        assert!(!log(&home).contains("is in force"), "{}", log(&home));
    }
    home.write(&home.layout().config_file(), "drain_timeout = 2\n");
    wait_until("the time is in force", || note(&home).is_empty());
    assert_says(&log(&home), &["changed and is in force"]);
}

#[test]
fn settings_that_lead_elsewhere_are_reported() {
    let home = Home::new();
    let port = home.port.to_string();
    home.gem(&["install", "--runtime", "builtin", "--port", &port]).ok();
    let text = fs::read_to_string(home.settings()).unwrap();
    fs::write(
        home.settings(),
        text.replace(&format!("localhost:{port}"), "localhost:1"),
    )
    .unwrap();
    wait_until("the log says so", || {
        log(&home).contains("asks `http://localhost:1`, not this server")
    });
}

#[test]
fn a_configured_port_applies_at_restart() {
    let home = Home::new();
    let (installed, other) = (home.port, free_port());
    home.gem(&["install", "--runtime", "builtin", "--port", &installed.to_string()])
        .ok();
    let port = || home.gem(&["status", "--json"]).run().json()["port"].clone();
    let config = home.layout().config_file();
    home.write(&config, &format!("port = {other}\n"));
    wait_until("the need of a restart is told", || {
        note(&home).contains("`port` changed: run `gem-setup install`")
    });
    assert_eq!(port(), installed);
    home.gem(&["restart"]).ok();
    assert_eq!(port(), other);
    let doctor = home.gem(&["doctor"]).run();
    assert_says(
        &doctor.stdout,
        &[&format!("localhost:{installed}"), "Next: gem-setup doctor --fix"],
    );

    fs::remove_file(&config).unwrap();
    home.gem(&["restart"]).ok();
    assert_eq!(port(), installed);

    home.write(&config, &format!("port = {other}\n"));
    home.gem(&["restart"]).ok();
    home.gem(&["install"]).ok();
    assert_eq!(port(), other);
    assert!(!home.gem(&["doctor"]).run().stdout.contains("Next: gem-setup"));
}

#[test]
fn broken_settings_are_not_called_in_force() {
    let home = Home::new();
    let port = home.port.to_string();
    home.gem(&["install", "--runtime", "builtin", "--port", &port]).ok();
    let whole = fs::read_to_string(home.settings()).unwrap();
    fs::write(home.settings(), "{bad").unwrap();
    wait_until("status names the file", || note(&home).contains("settings.json"));
    assert_says(&log(&home), &["are not in force"]);
    assert!(!log(&home).contains("changed and is in force"), "{}", log(&home));
    fs::write(home.settings(), whole).unwrap();
    wait_until("nothing is left to say", || note(&home).is_empty());
}
