//! Bundles that are refused: damaged, with foreign paths, or not signed by the expected key.

use std::fs;
use std::path::Path;

use gem_platform::Target;
use gem_setup_support::mirror::sha256_hex;
use tar::EntryType;

use super::bundle::{bundle, create, install, refused, tar_of};
use super::harness::{Home, MODEL, assert_says};
use super::signed_catalog::Key;

#[test]
fn a_directory_unlike_its_list_is_refused_before_any_change() {
    let (_first, bundle, _) = bundle("bundle", &[]);
    let model = bundle.join("models").join(MODEL).join("model.litertlm");
    let whole = fs::read(&model).unwrap();
    fs::write(&model, "tampered").unwrap();
    refused(&bundle, "the hash of");
    fs::remove_file(&model).unwrap();
    refused(&bundle, "is missing");
    fs::write(&model, &whole).unwrap();
    fs::write(bundle.join("more"), "added").unwrap();
    refused(&bundle, "`more` is not listed");
    fs::remove_file(bundle.join("more")).unwrap();
    #[cfg(unix)]
    {
        let elsewhere = bundle.parent().unwrap().join("elsewhere");
        fs::rename(&model, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &model).unwrap();
        refused(&bundle, "is not a regular file");
        fs::remove_file(&model).unwrap();
        fs::rename(&elsewhere, &model).unwrap();
    }
    let list = bundle.join("SHA256SUMS");
    let listed = fs::read_to_string(&list).unwrap();
    for path in ["../outside", "/outside", "a/../../outside"] {
        fs::write(&list, format!("{listed}{}  {path}\n", sha256_hex(b"x"))).unwrap();
        refused(&bundle, "is outside the bundle");
    }
    fs::remove_file(&list).unwrap();
    refused(&bundle, "`SHA256SUMS` is missing");
    fs::write(&list, listed).unwrap();
    let home = Home::new();
    home.gem(&["bundle", "verify"]).arg(&bundle).ok();
}

#[test]
fn a_damaged_bundle_file_is_refused_before_any_change() {
    let (_first, bundle, _) = bundle("bundle.tar", &[]);
    let whole = fs::read(&bundle).unwrap();
    for length in [0, 100, 512, whole.len() / 2, whole.len() - 1024, whole.len() - 1] {
        fs::write(&bundle, &whole[..length]).unwrap();
        refused(&bundle, "not a complete tar file");
    }
    fs::write(&bundle, [&whole[..], &whole[..]].concat()).unwrap();
    refused(&bundle, "there are bytes after the end");
    let mut changed = whole.clone();
    changed[600] ^= 1;
    fs::write(&bundle, changed).unwrap();
    refused(&bundle, "the hash of");
}

#[test]
fn paths_and_links_out_of_a_bundle_are_refused() {
    let place = Home::new();
    let file = place.beside("evil.tar");
    for (name, kind, content, why) in [
        ("../outside", EntryType::Regular, "x", "is outside the bundle"),
        ("/outside", EntryType::Regular, "x", "is outside the bundle"),
        ("a/../../outside", EntryType::Regular, "x", "is outside the bundle"),
        ("a\\..\\outside", EntryType::Regular, "x", "is outside the bundle"),
        ("link", EntryType::Symlink, "/etc", "is not a regular file"),
        ("link", EntryType::Link, "catalog.toml", "is not a regular file"),
        ("pipe", EntryType::Fifo, "x", "is not a regular file"),
    ] {
        let catalog = "format = 1\n";
        let sums = format!(
            "{}  catalog.toml\n{}  {name}\n",
            sha256_hex(catalog.as_bytes()),
            sha256_hex(b"x")
        );
        let entries = [
            ("catalog.toml", EntryType::Regular, catalog),
            (name, kind, content),
            ("SHA256SUMS", EntryType::Regular, &sums),
        ];
        fs::write(&file, tar_of(&entries)).unwrap();
        refused(&file, why);
    }
    let sums = format!("{}  catalog.toml\n", sha256_hex(b"format = 1\n"));
    let catalog = ("catalog.toml", EntryType::Regular, "format = 1\n");
    fs::write(
        &file,
        tar_of(&[catalog, catalog, ("SHA256SUMS", EntryType::Regular, &sums)]),
    )
    .unwrap();
    refused(&file, "twice");
}

#[test]
fn a_signed_bundle_is_accepted_only_with_its_key() {
    let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    let keys = Home::new();
    let secret = keys.beside("key");
    fs::write(&secret, pair.sk.to_box(None).unwrap().to_string()).unwrap();
    let (_first, bundle, printed) = bundle("bundle.tar", &["--sign", secret.to_str().unwrap()]);
    let key = pair.pk.to_base64();
    assert_says(printed.lines().last().unwrap(), &["--public-key", &key]);
    let verify = |key: &str| keys.gem(&["bundle", "verify", "--public-key", key]).arg(&bundle);
    assert_says(&verify(&key).ok().stdout, &["signature is valid"]);
    let file = keys.beside("key.pub");
    fs::write(&file, pair.pk.to_box().unwrap().to_string()).unwrap();
    verify(file.to_str().unwrap()).ok();

    let other = minisign::KeyPair::generate_unencrypted_keypair()
        .unwrap()
        .pk
        .to_base64();
    assert_says(&verify(&other).ends(6).stderr, &["signature"]);
    let home = Home::new();
    for run in [
        verify("nonsense").ends(2),
        install(&home, &bundle).args(["--public-key", "nonsense"]).ends(2),
    ] {
        assert_says(
            &run.stderr,
            &["cannot use the public key `nonsense`", "hint: pass the key"],
        );
    }
    home.assert_untouched();
    install(&home, &bundle).args(["--public-key", &other]).ends(6);
    home.assert_untouched();
    install(&home, &bundle).args(["--public-key", &key]).ok();
}

#[test]
fn minisign_keys_sign_with_and_without_password() {
    let home = Home::new();
    let key = Key::new(11);
    let (plain, sealed, damaged) = (
        home.beside("plain.key"),
        home.beside("sealed.key"),
        home.beside("damaged.key"),
    );
    fs::write(&plain, key.secret()).unwrap();
    fs::write(&sealed, key.sealed()).unwrap();
    // Changes a digit in the middle of the key.
    let mut text = key.secret().into_bytes();
    let middle = text.len() - 100;
    text[middle] = if text[middle] == b'A' { b'B' } else { b'A' };
    fs::write(&damaged, text).unwrap();
    let target = Target::host().unwrap().to_string();
    let sign = |secret: &Path, name: &str| create(&home, name, &target).arg("--sign").arg(secret);
    sign(&plain, "signed.tar").ok();
    let verify = home.gem(&["bundle", "verify", "--public-key", &key.public()]);
    assert_says(
        &verify.arg(home.beside("signed.tar")).ok().stdout,
        &["signature is valid"],
    );
    assert_says(
        &sign(&damaged, "other.tar").ends(2).stderr,
        &["it is damaged", "minisign -G"],
    );
    fs::write(&damaged, "notes\n").unwrap();
    assert_says(
        &sign(&damaged, "other.tar").ends(2).stderr,
        &["it is not a minisign secret key"],
    );
    #[cfg(target_os = "linux")]
    {
        let alone = sign(&sealed, "other.tar").without_terminal().ends(2);
        assert_says(&alone.stderr, &["it has a password", "no terminal", "minisign -C -W"]);
    }
    assert!(!home.beside("other.tar").exists());
}

#[test]
fn an_unsigned_bundle_is_refused_if_a_key_is_given() {
    let (home, bundle, _) = bundle("bundle", &[]);
    let key = minisign::KeyPair::generate_unencrypted_keypair()
        .unwrap()
        .pk
        .to_base64();
    let run = home
        .gem(&["bundle", "verify", "--public-key", &key])
        .arg(&bundle)
        .ends(6);
    assert_says(&run.stderr, &["it is not signed"]);
}
