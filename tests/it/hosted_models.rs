//! A models file in a signed catalog: verified, placed, and used by a running server.

use std::fs;

use gem_setup::router::Models;
use gem_setup_support::upstream::Upstream;
use serde_json::Value;

use super::harness::{Gem, Home, assert_says, wait_until};
use super::signed_catalog::{Key, SIGNED};
use super::upstream::{Scene, text};

const SIMPLE: &str = "list the files here";
const URL: &str = "/signed/catalog.toml";

/// A models file of this version, in which simple requests go to `flash`.
fn file(version: &str, flash: &str) -> String {
    format!(
        "format = 1\nversion = \"{version}\"\n[model]\n\"{flash}\" = {{ family = \"gemini-3\", tier = \"flash\" }}\n\
         [choice.auto]\npro = \"gemini-3.1-pro-preview\"\nflash = \"gemini-3.8-flash\"\nchain = \"auto-gemini-3\"\n\
         [choice.auto.account.api-key]\nflash = \"{flash}\"\n[choice.auto.account.login]\nflash = \"{flash}\"\n"
    )
}

/// Publishes a catalog that delivers `file`, signed by `key` at `time`.
fn publish(home: &Home, file: &str, key: &Key, time: i64) {
    let text = format!("format = 1\n[hosted-models]\nfile = '''\n{file}'''\n");
    let signature = key.sign(&text, time).into_bytes();
    home.mirror.publish(&format!("{URL}.minisig"), signature);
    home.mirror.publish(URL, text.into_bytes());
}

fn upgrade(home: &Home, key: &Key, more: &[&str]) -> Gem {
    let url = format!("{}{URL}", home.mirror.url().trim_end_matches('/'));
    home.gem(&["upgrade", "--catalog-url", &url, "--catalog-key", &key.public()])
        .args(more)
}

/// The model that the server requests for a simple request.
fn asked(scene: &Scene) -> String {
    let answer = scene.generate("gem-auto", SIMPLE);
    assert_eq!(answer.status, 200, "{answer:?}");
    text(&answer).replace("Hello from ", "")
}

fn route(home: &Home) -> Value {
    home.gem(&["route", "--json", "--classifier", "builtin", SIMPLE])
        .ok()
        .json()["model"]
        .clone()
}

fn listed(home: &Home) -> Option<Value> {
    let versions = home.gem(&["versions", "--json"]).ok().json();
    let mut versions = versions["versions"].as_array().unwrap().clone().into_iter();
    versions.find(|version| version["what"] == "hosted-models")
}

#[test]
fn a_running_server_uses_models_of_a_signed_catalog() {
    let home = Home::new();
    let port = home.port.to_string();
    home.gem(&["install", "--runtime", "builtin", "--no-start", "--port", &port])
        .ok();
    let scene = Scene::on(home, Upstream::start(), &[], &[]);
    let home = &scene.home;
    let pid = || home.gem(&["status", "--json"]).ok().json()["pid"].clone();
    let (server, before) = (pid(), asked(&scene));
    let key = Key::new(7);
    publish(home, &file("2099-01-01", "gemini-9-flash"), &key, SIGNED);
    // With another key, the catalog is ignored.
    upgrade(home, &Key::new(8), &[]).ends(6);
    assert_eq!(asked(&scene), before);

    let check = upgrade(home, &key, &["--check", "--json"]).ok().json();
    let built_in = Models::built_in().unwrap().version().to_owned();
    let expected =
        serde_json::json!([{"what": "hosted-models", "name": "models file", "from": built_in, "to": "2099-01-01"}]);
    assert_eq!(check["upgrades"], expected);
    assert_eq!(listed(home), None);

    let run = upgrade(home, &key, &["--json"]).ok();
    assert_eq!(run.changed(), ["hosted-models"]);
    wait_until("the server asks the new model", || asked(&scene) == "gemini-9-flash");
    assert_eq!((pid(), route(home)), (server.clone(), "gemini-9-flash".into()));
    let version = listed(home).unwrap();
    assert_eq!(
        (&version["version"], &version["current"]),
        (&"2099-01-01".into(), &true.into())
    );
    assert_says(version["catalog"].as_str().unwrap(), &[URL]);
    assert_eq!(
        upgrade(home, &key, &["--json", "--hosted-models"]).ok().changed(),
        [""; 0]
    );

    // The user's own file takes precedence.
    let own = home.beside("own.toml");
    fs::write(&own, file("1", "gemini-1-flash")).unwrap();
    let config = format!("models = \"{}\"\n", own.display());
    home.write(&home.layout().config_file(), &config);
    wait_until("the server asks the user's model", || asked(&scene) == "gemini-1-flash");
    fs::remove_file(home.layout().config_file()).unwrap();
    wait_until("the delivered one is back", || asked(&scene) == "gemini-9-flash");

    home.gem(&["rollback", "hosted-models"]).ok();
    wait_until("the models inside gem-setup are back", || asked(&scene) == before);
    assert_eq!((listed(home), pid()), (None, server));
    assert_says(
        &home.gem(&["rollback", "hosted-models"]).ends(2).stderr,
        &["those inside gem-setup are in use"],
    );
}

#[test]
fn install_from_a_signed_catalog_delivers_its_models() {
    let home = Home::new();
    let key = Key::new(11);
    publish(&home, &file("2099-01-01", "gemini-9-flash"), &key, SIGNED);
    let config = format!(
        "catalog_url = \"{}{URL}\"\ncatalog_key = \"{}\"\n",
        home.mirror.url().trim_end_matches('/'),
        key.public()
    );
    home.write(&home.layout().config_file(), &config);
    let port = home.port.to_string();
    let install = |more: &[&str]| {
        home.gem(&[
            "install",
            "--json",
            "--runtime",
            "builtin",
            "--no-start",
            "--port",
            &port,
        ])
        .args(more)
    };
    let plan = install(&["--dry-run"]).ok();
    assert_eq!(plan.step("hosted-models"), "changed");
    assert!(!home.layout().signed_catalog_file().exists() && !home.layout().state_file().exists());
    assert!(install(&[]).ok().changed().contains(&"hosted-models".to_owned()));
    assert_eq!(route(&home), "gemini-9-flash");
    assert_says(listed(&home).unwrap()["catalog"].as_str().unwrap(), &[URL]);
    // A catalog signed with another key is refused before any change.
    let other = Home::new();
    other.write(
        &other.layout().config_file(),
        &config.replace(&key.public(), &Key::new(12).public()),
    );
    other
        .gem(&["install", "--runtime", "builtin", "--no-start", "--port", &port])
        .ends(6);
    assert!(!other.layout().state_file().exists());
    // After the installation only `upgrade` looks for another catalog; a rollback is kept.
    let asked = home.mirror.asked().len();
    home.gem(&["rollback", "hosted-models"]).ok();
    assert_eq!(install(&[]).ok().changed(), [""; 0]);
    assert_eq!((home.mirror.asked().len(), listed(&home)), (asked, None));
}

#[test]
fn install_from_a_given_catalog_replaces_only_older_models() {
    let home = Home::new();
    let port = home.port.to_string();
    let install = |more: &[&str]| {
        home.gem(&["install", "--runtime", "builtin", "--no-start", "--port", &port])
            .args(more)
    };
    let given = home.beside("given.toml");
    let text = |file: &str| format!("format = 1\n[hosted-models]\nfile = '''\n{file}'''\n");
    fs::write(&given, text(&file("2099-01-03", "gemini-8-flash"))).unwrap();
    install(&["--catalog", given.to_str().unwrap()]).ok();
    assert_eq!(route(&home), "gemini-8-flash");
    // Older models do not replace those in use, and an invalid file is refused.
    fs::write(&given, text(&file("2099-01-02", "gemini-7-flash"))).unwrap();
    install(&["--catalog", given.to_str().unwrap()]).ok();
    assert_eq!(route(&home), "gemini-8-flash");
    fs::write(&given, text("format = 2\n")).unwrap();
    let run = install(&["--catalog", given.to_str().unwrap()]).ends(6);
    assert_says(&run.stderr, &["are refused", "the models in use stay"]);
}

/// A home with a models file of a signed catalog, and the catalog's key.
fn with_models_file() -> (Home, Key) {
    let home = Home::new();
    let port = home.port.to_string();
    home.gem(&["install", "--runtime", "builtin", "--no-start", "--port", &port])
        .ok();
    let key = Key::new(9);
    publish(&home, &file("2099-01-02", "gemini-9-flash"), &key, SIGNED);
    upgrade(&home, &key, &[]).ok();
    (home, key)
}

#[test]
fn an_older_models_file_is_refused() {
    let (home, key) = with_models_file();
    // An older catalog, and an older file in a newer catalog.
    publish(&home, &file("2099-01-03", "gemini-8-flash"), &key, SIGNED - 1);
    assert_says(
        &upgrade(&home, &key, &[]).ends(6).stderr,
        &["is refused", "was signed on"],
    );
    publish(&home, &file("2099-01-01", "gemini-8-flash"), &key, SIGNED + 1);
    for more in [&["--check"][..], &[], &["--hosted-models"]] {
        let run = upgrade(&home, &key, more).ends(6);
        assert_says(&run.stderr, &["are refused", "2099-01-01, older than", "--allow-older"]);
        assert_eq!(route(&home), "gemini-9-flash");
    }
    publish(&home, &file("2099-01-01", "gemini-8-flash"), &key, SIGNED + 2);
    upgrade(&home, &key, &["--allow-older"]).ok();
    assert_eq!(route(&home), "gemini-8-flash");
    // A models file older than the built-in one is ignored.
    publish(&home, &file("2000-01-01", "gemini-8-flash"), &key, SIGNED + 3);
    home.gem(&["rollback", "hosted-models"]).ok();
    assert_eq!(
        upgrade(&home, &key, &["--hosted-models", "--json"]).ok().changed(),
        [""; 0]
    );
    assert_ne!(route(&home), "gemini-8-flash");
}

#[test]
fn an_invalid_models_file_is_refused() {
    let (home, key) = with_models_file();
    // Files in another format, and files that conflict with the built-in models.
    for (time, (file, reason)) in (SIGNED + 1..).zip([
        ("format = 1\n".to_owned(), "`version` is missing"),
        (
            "format = 2\nversion = \"2099-02-01\"\n".to_owned(),
            "`format`: unknown value `2`",
        ),
        (
            "format = 1\nversion = \"2099-02-01\"\n[alias]\nx = \"nothing\"\n".to_owned(),
            "nothing",
        ),
        ("no table\n".to_owned(), "line 1"),
    ]) {
        publish(&home, &file, &key, time);
        let run = upgrade(&home, &key, &[]).ends(6);
        assert_says(&run.stderr, &["are refused", reason, "the models in use stay"]);
        // The advice works as it is printed.
        assert_says(
            &run.stderr,
            &["gem-setup upgrade --self --catalog-url ", " --catalog-key "],
        );
        assert_eq!(route(&home), "gemini-9-flash");
    }
    // A damaged record: the built-in models are used, with a message.
    fs::write(home.layout().hosted_models_file(), "{").unwrap();
    let run = home.gem(&["route", "--json", "--classifier", "builtin", SIMPLE]).ok();
    assert_says(
        &run.stderr,
        &["the built-in models are used", "gem-setup rollback hosted-models"],
    );
    assert_ne!(run.json()["model"], "gemini-9-flash");
}

#[test]
fn upgrade_names_a_missing_models_file_or_installation() {
    let home = Home::new();
    let key = Key::new(10);
    publish(&home, &file("2099-01-01", "gemini-9-flash"), &key, SIGNED);
    assert_says(
        &upgrade(&home, &key, &["--hosted-models"]).ends(2).stderr,
        &["nothing is installed"],
    );
    let port = home.port.to_string();
    home.gem(&["install", "--runtime", "builtin", "--no-start", "--port", &port])
        .ok();
    let bare = "format = 1\n";
    home.mirror
        .publish(&format!("{URL}.minisig"), key.sign(bare, SIGNED + 1).into_bytes());
    home.mirror.publish(URL, bare);
    let run = upgrade(&home, &key, &["--hosted-models"]).ends(2);
    assert_says(&run.stderr, &["the catalog has none", "--catalog-url"]);
}
