//! Signed catalogs: which are refused, and how newer versions are announced.

use std::fs;
use std::net::TcpListener;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gem_setup::catalog::CatalogKey;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::Value;

use super::harness::{Gem, Home, assert_says, executable, wait_until};

/// The time of the first catalog's signature, in seconds.
pub(super) const SIGNED: i64 = 1_700_000_000;

/// A minisign key.
pub(super) struct Key {
    pair: Ed25519KeyPair,
    id: [u8; 8],
}

impl Key {
    pub(super) fn new(seed: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        Self { pair, id: [seed; 8] }
    }

    fn encode(&self, rest: &[u8]) -> String {
        STANDARD.encode([b"Ed", &self.id[..], rest].concat())
    }

    /// The public key, as `--catalog-key` takes it.
    pub(super) fn public(&self) -> String {
        self.encode(self.pair.public_key().as_ref())
    }

    /// The signature of `text`, made at the second `time`.
    pub(super) fn sign(&self, text: &str, time: i64) -> String {
        let signature = self.pair.sign(text.as_bytes());
        let comment = format!("timestamp:{time}\tfile:catalog.toml");
        let all = self.pair.sign(&[signature.as_ref(), comment.as_bytes()].concat());
        format!(
            "untrusted comment: a test\n{}\ntrusted comment: {comment}\n{}\n",
            self.encode(signature.as_ref()),
            STANDARD.encode(all.as_ref())
        )
    }
}

impl Key {
    /// The secret key as `minisign -G -W` writes it: without a password and without a checksum.
    pub(super) fn secret(&self) -> String {
        self.stored([0, 0])
    }

    /// The beginning of a secret key with a password.
    pub(super) fn sealed(&self) -> String {
        self.stored(*b"Sc")
    }

    fn stored(&self, kdf: [u8; 2]) -> String {
        let seed = [self.id[0]; 32];
        let parts = [
            &kdf[..],
            b"B2",
            &[0; 48],
            &self.id,
            &seed,
            self.pair.public_key().as_ref(),
            &[0; 32],
        ];
        let bytes = [b"Ed", &*parts.concat()].concat();
        format!("untrusted comment: a key\n{}\n", STANDARD.encode(bytes))
    }
}

/// Publishes the catalog of `version`, signed by `key` at `time`.
fn publish(home: &Home, version: &str, key: &Key, time: i64) {
    let mut lit = executable();
    lit.extend_from_slice(format!("\n# {version}\n").as_bytes());
    let text = fs::read_to_string(home.release(version, &lit)).unwrap();
    home.mirror
        .publish("/signed/catalog.toml.minisig", key.sign(&text, time).into_bytes());
    home.mirror.publish("/signed/catalog.toml", text.into_bytes());
}

fn url(home: &Home) -> String {
    format!("{}/signed/catalog.toml", home.mirror.url().trim_end_matches('/'))
}

fn upgrade(home: &Home, key: &Key) -> Gem {
    let (url, mirror) = (url(home), home.mirror.url());
    home.gem(&[
        "upgrade",
        "--json",
        "--mirror",
        &mirror,
        "--catalog-url",
        &url,
        "--catalog-key",
        &key.public(),
    ])
}

fn version(home: &Home) -> Value {
    let state: Value = serde_json::from_slice(&fs::read(home.layout().state_file()).unwrap()).unwrap();
    state["version"].clone()
}

#[test]
fn unsigned_and_wrongly_signed_catalogs_are_refused() {
    let home = Home::installed();
    let (key, other) = (Key::new(1), Key::new(2));
    let refused = |words: &[&str]| {
        let run = upgrade(&home, &key).ends(6);
        assert_says(&run.stderr, words);
        version(&home)
    };
    publish(&home, "v10", &key, SIGNED);
    let text = fs::read_to_string(home.beside("catalog-v10.toml")).unwrap();
    let signature = key.sign(&text, SIGNED);
    // Without a signature, with another key's signature, and with the signature of another text.
    home.mirror.publish("/signed/catalog.toml.minisig", b"".to_vec());
    assert_eq!(refused(&["refused", "signature"]), "v9");
    publish(&home, "v10", &other, SIGNED);
    assert_eq!(refused(&["not by the expected key"]), "v9");
    home.mirror
        .publish("/signed/catalog.toml", text.replace("v10", "v11").into_bytes());
    home.mirror
        .publish("/signed/catalog.toml.minisig", signature.clone().into_bytes());
    assert_eq!(refused(&["not for this text"]), "v9");
    // A changed time is not covered by the signature.
    home.mirror.publish("/signed/catalog.toml", text.into_bytes());
    home.mirror.publish(
        "/signed/catalog.toml.minisig",
        signature.replace("timestamp:17", "timestamp:18").into_bytes(),
    );
    assert_eq!(refused(&["refused"]), "v9");
    // The right catalog is accepted, with its key only.
    publish(&home, "v10", &key, SIGNED);
    let keyless = home.gem(&["upgrade", "--mirror", &home.mirror.url(), "--catalog-url", &url(&home)]);
    if CatalogKey::built_in().is_some() {
        keyless.ends(6);
    } else {
        assert_says(
            &keyless.ends(2).stderr,
            &["no key is given", "built without one", "--catalog-key"],
        );
    }
    assert_eq!(version(&home), "v9");
    upgrade(&home, &key).ok();
    assert_eq!(version(&home), "v10");
    let versions = home.gem(&["versions", "--json"]).ok().json();
    assert_eq!(versions["versions"][0]["catalog"], url(&home).as_str());
}

#[test]
fn an_older_catalog_by_the_same_key_is_refused() {
    let home = Home::installed();
    let key = Key::new(1);
    let refused = |words: &[&str]| {
        let run = upgrade(&home, &key).ends(6);
        assert_says(&run.stderr, words);
        version(&home)
    };
    publish(&home, "v10", &key, SIGNED);
    upgrade(&home, &key).ok();
    // It is an attack, also after the kept one was deleted.
    publish(&home, "v9", &key, SIGNED - 1);
    assert_eq!(refused(&["is refused", "2023-11-14T22:13:19Z"]), "v10");
    fs::remove_file(home.layout().signed_catalog_file()).unwrap();
    assert_eq!(refused(&["is refused"]), "v10");
    publish(&home, "v11", &key, SIGNED + 1);
    upgrade(&home, &key).ok();
    assert_eq!(version(&home), "v11");
}

#[test]
fn a_change_of_publisher_is_not_refused_by_its_date() {
    let home = Home::installed();
    let (first, other) = (Key::new(1), Key::new(2));
    let too_old = |key: &Key| assert_says(&upgrade(&home, key).ends(6).stderr, &["is refused", "is known"]);
    publish(&home, "v10", &first, SIGNED);
    upgrade(&home, &first).ok();
    publish(&home, "v11", &other, SIGNED - 1_000);
    upgrade(&home, &other).ok();
    assert_eq!(version(&home), "v11");
    // Each publisher's own earlier catalogs still count.
    publish(&home, "v9", &other, SIGNED - 1_001);
    too_old(&other);
    publish(&home, "v9", &first, SIGNED - 1);
    too_old(&first);
    // Also after more releases by the other, which push those of the first out of the record.
    for (release, later) in [("v12", 1), ("v13", 2)] {
        publish(&home, release, &other, SIGNED + later);
        upgrade(&home, &other).ok();
    }
    publish(&home, "v9", &first, SIGNED - 1);
    too_old(&first);
    // A record without a key may belong to any publisher.
    let file = home.layout().state_file();
    let mut state: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    state
        .pointer_mut("/signed")
        .unwrap()
        .as_object_mut()
        .unwrap()
        .remove("key")
        .unwrap();
    fs::write(&file, state.to_string()).unwrap();
    publish(&home, "v9", &Key::new(3), SIGNED - 1_001);
    too_old(&Key::new(3));
    assert_eq!(version(&home), "v13");
}

#[test]
fn a_catalog_with_an_impossible_date_is_refused_and_forgotten() {
    let home = Home::installed();
    let key = Key::new(5);
    let now = jiff::Timestamp::now().as_second();
    for time in [99_999_999_999, now + 2 * 86_400, 1_577_836_799, 0, -5] {
        publish(&home, "v10", &key, time);
        let run = upgrade(&home, &key).ends(6);
        assert_says(&run.stderr, &["is refused", "signed on", "check this machine's clock"]);
        assert_eq!(version(&home), "v9");
    }
    // A clock that is some hours ahead does no harm.
    publish(&home, "v10", &key, now + 3_600);
    upgrade(&home, &key).ok();
    // A catalog from the future that an earlier gem-setup kept, and installed from, does not block others.
    let future = 99_999_999_999;
    let kept = home.layout().signed_catalog_file();
    let mut record: Value = serde_json::from_slice(&fs::read(&kept).unwrap()).unwrap();
    record["signature"] = key.sign(record["text"].as_str().unwrap(), future).into();
    record["times"] = serde_json::json!({});
    fs::write(&kept, record.to_string()).unwrap();
    let file = home.layout().state_file();
    let mut state: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let recorded = state.pointer_mut("/signed/time").unwrap();
    *recorded = jiff::Timestamp::from_second(future).unwrap().to_string().into();
    fs::write(&file, state.to_string()).unwrap();
    publish(&home, "v11", &key, SIGNED);
    upgrade(&home, &key).ok();
    assert_eq!(version(&home), "v11");
}

#[test]
fn a_hub_that_hangs_delays_no_command() {
    let home = Home::installed();
    let hub = TcpListener::bind("127.0.0.1:0").unwrap();
    hub.set_nonblocking(true).unwrap();
    let text = format!(
        "catalog_url = \"http://{}/catalog.toml\"\ncatalog_key = \"{}\"\nupdate_check = true\n",
        hub.local_addr().unwrap(),
        Key::new(4).public()
    );
    home.write(&home.layout().config_file(), &text);
    home.gem(&["status"]).run();
    let mut asked = None;
    wait_until("the hub is asked", || {
        asked = hub.accept().ok();
        asked.is_some()
    });
    // The hub has not responded yet; commands continue, and do not ask it again today.
    home.gem(&["status"]).run();
    home.doctor();
    assert!(hub.accept().is_err(), "it was asked again");
}

#[test]
fn a_failed_look_up_is_reported() {
    let home = Home::installed();
    let key = Key::new(6);
    publish(&home, "v10", &Key::new(7), SIGNED);
    let config = home.beside("other.toml");
    let mirror = home.mirror.url();
    let text = |url: &str| {
        format!(
            "catalog_url = \"{url}\"\ncatalog_key = \"{}\"\nupdate_check = true\nmirror = [\"{mirror}\"]\n",
            key.public()
        )
    };
    fs::write(&config, text(&url(&home))).unwrap();
    let status = || home.gem(&["status", "--json", "--config"]).arg(&config).run().json();
    status();
    let log = || fs::read_to_string(home.layout().lookup_log_file()).unwrap_or_default();
    wait_until("the look-up has failed", || log().contains("error: "));
    let words = ["look-up of newer versions failed", "not by the expected key"];
    assert_says(status()["note"].as_str().unwrap(), &words);
    let doctor = home.doctor_command().arg("--config").arg(&config).run();
    assert_says(doctor.check("runtime.upgrade")["detail"].as_str().unwrap(), &words);
    assert_says(
        doctor.check("runtime.upgrade")["fix"].as_str().unwrap(),
        &["gem-setup upgrade --check"],
    );
    // Without consent there is no message.
    assert!(home.gem(&["status", "--json"]).run().json()["note"].is_null());
    // The next day, with a right catalog: the look-up itself needs the other configuration.
    publish(&home, "v10", &key, SIGNED);
    fs::remove_file(home.layout().lookup_log_file()).unwrap();
    status();
    wait_until("it was looked up", || status()["upgrades"][0]["to"] == "v10");
    assert!(status()["note"].is_null());
}

#[test]
fn an_unusable_signed_catalog_is_named_with_its_fault() {
    let home = Home::installed();
    let key = Key::new(12);
    for (time, (text, reason)) in (SIGNED..).zip([
        ("format = 9\n", "key `format`: unknown value `9`"),
        ("format = 1\n[runtime.lit]\n", "version"),
        ("<html>\n", "line 1"),
    ]) {
        home.mirror
            .publish("/signed/catalog.toml.minisig", key.sign(text, time).into_bytes());
        home.mirror.publish("/signed/catalog.toml", text);
        let run = upgrade(&home, &key).ends(2);
        assert_says(
            &run.stderr,
            &[&url(&home), reason, "nothing was changed", "upgrade --self"],
        );
        assert!(!run.stderr.contains("give `--catalog` a TOML file"), "{run:#?}");
    }
    assert_eq!(version(&home), "v9");
}

#[test]
fn upgrades_are_announced_only_with_consent() {
    let home = Home::installed();
    let key = Key::new(3);
    publish(&home, "v10", &key, SIGNED);
    let config = |consent: bool| {
        let text = format!(
            "catalog_url = \"{}\"\ncatalog_key = \"{}\"\nupdate_check = {consent}\n",
            url(&home),
            key.public()
        );
        home.write(&home.layout().config_file(), &text);
    };
    let status = || home.gem(&["status", "--json"]).run().json();
    let is_looked_up = || home.layout().lookup_log_file().exists();
    for (lines, missing) in [
        ("", "catalog_url"),
        ("catalog_url = \"https://example.com/c.toml\"\n", "catalog_key"),
    ] {
        home.write(&home.layout().config_file(), &format!("{lines}update_check = true\n"));
        if CatalogKey::built_in().is_none() || missing == "catalog_url" {
            let check = home.doctor().check("runtime.upgrade");
            assert_says(check["detail"].as_str().unwrap(), &["has no effect without", missing]);
        }
        assert!(!is_looked_up(), "without {missing}");
    }
    config(false);
    status();
    assert!(!is_looked_up(), "without consent");
    config(true);
    home.gem(&["status"]).env("CI", "true").run();
    assert!(!is_looked_up(), "in a continuous integration");
    assert!(status()["upgrades"].is_null());
    wait_until("it was looked up", || home.layout().signed_catalog_file().exists());
    assert_eq!(status()["upgrades"][0]["to"], "v10");
    let told = home.gem(&["status"]).run();
    assert_says(&told.stdout, &["lit v10 is available", "gem-setup upgrade --runtime"]);
    assert_eq!(home.doctor().check("runtime.upgrade")["status"], "warn");
    // Once a day is enough.
    let asked = home.mirror.asked().len();
    status();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(home.mirror.asked().len(), asked);
    // `upgrade` uses the same configuration.
    let offers = home.gem(&["upgrade", "--check", "--json"]).ok().json();
    assert_eq!(offers["upgrades"][0]["to"], "v10");
    home.gem(&["upgrade"]).ok();
    assert_eq!(version(&home), "v10");
    assert!(status()["upgrades"].is_null());
}
