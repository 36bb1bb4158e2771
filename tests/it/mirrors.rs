//! Mirrors: what they are sent, and what is told of them.

use gem_setup_support::fault::FaultServer;

use super::harness::{Home, executable, tree};

#[test]
fn the_login_in_a_mirrors_url_reaches_the_mirror_and_nobody_else() {
    const SECRET: &str = "s3cretOfTheMirror";
    let home = Home::new();
    let server = FaultServer::start(executable());
    let mirror = server.url().replace("://", &format!("://ann:{SECRET}@"));
    let install = |more: &[&str]| {
        home.gem(&[
            "install",
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
    for (path, file) in tree(&home.path(), &[]) {
        let bytes = file.map(|(bytes, _)| bytes).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&bytes).contains(SECRET), "{}", path.display());
    }
    // The place of the mirror is remembered all the same.
    let asked = server.asked().len();
    assert_eq!(runs[3].check("network.runtime")["status"], "ok");
    assert_eq!(asked, 2, "one download, one probe");
}

#[test]
fn a_file_that_a_mirror_on_disk_lacks_is_no_fault_of_the_network() {
    let home = Home::new();
    let mirror = url::Url::from_directory_path(home.beside("empty")).unwrap();
    let run = home
        .gem(&["install", "--json", "--accept-terms", "--no-start", "--mirror-only"])
        .args(["--mirror", mirror.as_str(), "--catalog"])
        .arg(home.catalog())
        .ends(5);
    let hint = run.result()["error"]["hint"].as_str().unwrap().to_owned();
    assert!(hint.contains("on disk") && !hint.contains("network"), "{hint}");
}
