//! A home without an installation.

use super::harness::{Home, MODEL, assert_says};

#[test]
fn every_command_on_an_empty_home_names_install() {
    let home = Home::new();
    for (command, status) in [
        ("status", 7),
        ("start", 7),
        ("restart", 7),
        ("serve", 7),
        ("smoke", 7),
        ("list", 7),
        ("logs", 0),
        ("stop", 0),
        ("doctor", 10),
    ] {
        let run = home.gem(&[command]).ends(status);
        let text = format!("{}{}", run.stdout, run.stderr);
        assert_says(&text, &["not installed", "gem-setup install"]);
        assert_eq!(
            text.matches("error:").count(),
            usize::from(run.stderr.contains("error:")),
            "{run:#?}"
        );
    }
}

#[test]
fn a_pull_that_cannot_start_fails_with_one_error() {
    let home = Home::new();
    for model in ["nope", MODEL] {
        let run = home.gem(&["pull", model]).ends(3);
        assert_eq!(run.stdout, "");
        let lines: Vec<&str> = run.stderr.lines().collect();
        assert_eq!(lines.len(), 2, "{run:#?}");
        assert_says(&run.stderr, &["error: ", "hint: "]);
    }
}

#[test]
fn show_names_settings_that_are_not_set() {
    let home = Home::new();
    let run = home.gem(&["settings", "show"]).ok();
    assert_says(&run.stdout, &["binaryPath        not set (default)"]);
    let run = home.gem(&["settings", "apply"]).ok();
    assert_says(&run.stdout, &["wrote `~/.gemini/settings.json`"]);
    assert_says(&run.stderr, &["Restart Gemini CLI"]);
}

#[cfg(unix)]
#[test]
fn the_printed_request_can_be_pasted() {
    let home = Home::new();
    let port = home.port.to_string();
    home.gem(&["install", "--runtime", "builtin", "--no-start", "--port", &port])
        .ok();
    let printed = home.gem(&["smoke", "--print-command"]).ok().stdout;
    let lines: Vec<&str> = printed.lines().collect();
    let ["# curl", curl, "# PowerShell", powershell] = lines[..] else {
        panic!("{printed}");
    };
    let url = format!("http://127.0.0.1:{port}/v1beta/models/{MODEL}:generateContent");
    let script = format!("curl() {{ for word; do :; done; printf '%s' \"$word\"; }}; {curl}");
    let run = home.program("sh").args(["-c", &script]).ok();
    let body = &run.json()["contents"][0]["parts"][0]["text"];
    let probe = "List the files here.";
    assert_says(body.as_str().unwrap(), &[probe]);
    for command in [curl, powershell] {
        assert_says(command, &[&url, probe]);
    }
}

/// A shown command that is pasted must not act on the default home.
#[test]
fn shown_commands_act_on_the_given_home() {
    let home = Home::new();
    let other = home.beside("other home");
    let gem = |words: &[&str]| home.gem(words).arg("--home").arg(&other);
    let port = home.port.to_string();
    gem(&["install", "--runtime", "builtin", "--no-start", "--port", &port]).ok();
    let named = format!(" --home '{}'`", other.display());
    let shown = |run: super::harness::Run| format!("{}{}", run.stdout, run.stderr);
    for (words, command) in [
        (&["status"][..], "`gem-setup start"),
        (&["smoke"], "`gem-setup start"),
        (&["rollback"], "`gem-setup versions"),
        (&["uninstall"], "`gem-setup uninstall --purge"),
        (&["status"], "`gem-setup install"),
    ] {
        assert_says(&shown(gem(words).run()), &[&format!("{command}{named}")]);
    }
}

/// `settings apply` does not install a server.
#[test]
fn settings_alone_are_no_installation() {
    let home = Home::new();
    home.gem(&["settings", "apply"]).ok();
    assert_says(
        &home.gem(&["status"]).ends(7).stdout,
        &["not installed: run `gem-setup install"],
    );
    assert_says(&home.gem(&["start"]).ends(7).stderr, &["run `gem-setup install"]);
}
