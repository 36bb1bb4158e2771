//! The model and its terms: asked for once, pulled once, with clear errors.

use std::fs;

use gem_setup_support::stand_in::MODEL_BYTES;
use serde_json::Value;

use super::harness::{Home, MODEL, TERMS, assert_says};

/// How the terms of the home's model were accepted.
fn recorded(home: &Home) -> Value {
    let text = fs::read_to_string(home.layout().terms_file()).unwrap();
    let record: Value = serde_json::from_str(&text).unwrap();
    record["accepted"][0].clone()
}

#[test]
fn unaccepted_terms_leave_the_home_untouched() {
    let home = Home::new();
    let run = home.install_unaccepted(&[]).ends(3);
    let error = &run.result()["error"];
    assert_says(error["message"].as_str().unwrap(), &[MODEL, TERMS]);
    assert_says(error["hint"].as_str().unwrap(), &["--accept-terms"]);
    home.assert_untouched();

    // Input from a pipe is not a person's answer.
    home.install_unaccepted(&[]).input("y\n").ends(3);
    home.assert_untouched();
}

#[test]
fn pull_asks_for_acceptance_too() {
    let home = Home::new();
    home.install_unaccepted(&["--no-start", "--no-model"]).ok();
    let run = home.gem(&["pull", MODEL]).ends(3);
    assert_says(&run.stderr, &["--accept-terms", TERMS]);
    assert_eq!(home.invocations("pull"), 0);
    assert!(!home.layout().terms_file().exists());

    let run = home.gem(&["pull", MODEL, "--json", "--accept-terms"]).ok();
    assert_eq!(run.changed(), ["model"]);
    assert_eq!(recorded(&home)["how"], "flag");
    assert_says(&home.gem(&["list"]).ok().stdout, &[MODEL]);
}

#[test]
fn a_model_outside_the_catalog_needs_acceptance() {
    const OTHER: &str = "gemma3-other";
    let home = Home::installed();
    let pulls = home.invocations("pull");
    for args in [
        ["pull", OTHER].as_slice(),
        &["install", "--no-start", "--model", OTHER],
        &["pull", OTHER, "--json"],
    ] {
        let run = home.gem(args).arg("--quiet").ends(3);
        assert_says(&run.stderr, &[OTHER, "publisher", "--accept-terms"]);
    }
    assert_eq!(home.invocations("pull"), pulls, "what was not accepted was pulled");

    home.gem(&["pull", OTHER, "--accept-terms"]).ok();
    let text = fs::read_to_string(home.layout().terms_file()).unwrap();
    let record: Value = serde_json::from_str(&text).unwrap();
    let record = &record["accepted"][1];
    assert_eq!((&record["model"], &record["how"]), (&OTHER.into(), &"flag".into()));
    assert_eq!(record["urls"], Value::Array(Vec::new()));
    home.gem(&["pull", OTHER, "--force"]).ok();
}

#[test]
fn acceptance_is_recorded_in_full() {
    let home = Home::new();
    home.install(&["--no-start"]).ok();
    let record = recorded(&home);
    assert_eq!(record["model"], MODEL);
    assert_eq!(record["urls"][0], TERMS);
    assert_eq!(record["how"], "flag");
    let time = record["time"].as_str().unwrap();
    assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
}

#[test]
fn acceptance_comes_from_any_layer() {
    for consent in ["--consent", "--accept-terms"] {
        let home = Home::new();
        home.install_unaccepted(&["--no-start", consent]).ok();
        assert_eq!(recorded(&home)["how"], "flag");
    }
    let home = Home::new();
    home.install_unaccepted(&["--no-start"])
        .env("GEM_SETUP_ACCEPT_TERMS", "1")
        .ok();
    assert_eq!(recorded(&home)["how"], "env");

    let home = Home::new();
    home.install_unaccepted(&["--no-start"])
        .env("GEM_SETUP_CONSENT", "1")
        .ok();
    assert_eq!(recorded(&home)["how"], "env");

    for line in ["accept_terms = true\n", "consent = true\n"] {
        let home = Home::new();
        home.write(&home.layout().config_file(), line);
        home.install_unaccepted(&["--no-start"]).ok();
        assert_eq!(recorded(&home)["how"], "env");
    }
}

#[cfg(unix)]
mod at_a_terminal {
    use super::{Home, MODEL, TERMS, assert_says, recorded};
    use crate::harness::{Gem, on_a_terminal};

    const QUESTION: &str = "Do you accept these terms?";

    fn install(home: &Home) -> Gem {
        home.gem(&["install", "--no-start", "--port", &home.port.to_string()])
            .args(["--mirror", &home.mirror.url(), "--catalog"])
            .arg(home.catalog())
    }

    #[test]
    fn anything_but_yes_leaves_nothing_behind() {
        for answer in ["n\n", "\n", "\u{4}", "yess\nno\n"] {
            let home = Home::new();
            let run = on_a_terminal(install(&home), QUESTION, answer);
            assert_eq!(run.status, 3, "{answer:?}: {run:#?}");
            assert_says(&run.stdout, &[TERMS, MODEL, "--runtime builtin", "were not accepted"]);
            home.assert_untouched();
        }
    }

    #[test]
    fn yes_is_a_whole_line() {
        for answer in ["y\n", "YES\n"] {
            let home = Home::new();
            let run = on_a_terminal(install(&home), QUESTION, answer);
            assert_eq!(run.status, 0, "{run:#?}");
            assert_eq!(recorded(&home)["how"], "prompt");
            assert_eq!(home.invocations("pull"), 1);
        }
    }

    #[test]
    fn a_yes_is_recorded_before_any_download() {
        let home = Home::new();
        home.mirror.publish(Home::LIT, b"not what the catalog pins".to_vec());
        let run = on_a_terminal(install(&home), QUESTION, "y\n");
        assert_eq!(run.status, 6, "{run:#?}");
        assert_eq!(recorded(&home)["how"], "prompt");
    }

    /// The terminal must be the controlling one, for Ctrl-C to be a signal.
    #[cfg(target_os = "linux")]
    #[test]
    fn ctrl_c_at_the_question_ends_with_130() {
        let home = Home::new();
        let run = on_a_terminal(install(&home).with_terminal(), QUESTION, "\u{3}");
        assert_eq!(run.status, 130, "{run:#?}");
        home.assert_untouched();
    }

    #[test]
    fn pull_asks_as_well() {
        let home = Home::new();
        home.install_unaccepted(&["--no-start", "--no-model"]).ok();
        let run = on_a_terminal(home.gem(&["pull", MODEL]), QUESTION, "n\n");
        assert_eq!(run.status, 3, "{run:#?}");
        assert!(!home.layout().terms_file().exists());
        let run = on_a_terminal(home.gem(&["pull", MODEL]), QUESTION, "y\n");
        assert_eq!(run.status, 0, "{run:#?}");
        assert_eq!(recorded(&home)["how"], "prompt");
    }
}

#[test]
fn an_installed_model_is_not_pulled_again() {
    let home = Home::installed();
    let run = home.gem(&["pull", MODEL, "--json"]).ok();
    assert_eq!(run.changed(), Vec::<String>::new());
    assert_eq!(run.step("model"), "ok");
    home.install(&["--no-start"]).ok();
    assert_eq!(home.invocations("pull"), 1);

    assert_eq!(
        home.gem(&["pull", MODEL, "--json", "--force"]).ok().changed(),
        ["model"]
    );
    assert_eq!(home.invocations("pull"), 2);
}

#[test]
fn a_prefix_of_a_name_is_another_model() {
    let home = Home::installed();
    let run = home.gem(&["pull", "gemma3-1b", "--json", "--accept-terms"]).ok();
    assert_eq!(run.changed(), ["model"]);
    assert!(home.layout().models().join("gemma3-1b").exists());

    fs::remove_dir_all(home.layout().models().join(MODEL)).unwrap();
    let listed = home.gem(&["list", "--json"]).ok().json();
    assert_eq!(listed["models"], serde_json::json!([]));
}

#[test]
fn a_pull_reports_its_progress_in_bytes() {
    let mut home = Home::new();
    home.set("STAND_IN_PULL", "slow");
    let run = home.install(&["--no-start"]).ok();
    let events = run.events();
    let told = events
        .iter()
        .filter(|event| event["event"] == "progress" && event["id"] == "model");
    let done: Vec<u64> = told.map(|event| event["done"].as_u64().unwrap()).collect();
    assert!(done.len() >= 3, "{done:?}");
    assert!(done.is_sorted(), "{done:?}");
    assert!((96_860_000..=968_600_000).contains(done.last().unwrap()), "{done:?}");
}

#[test]
fn a_failed_pull_shows_its_output_and_can_be_repeated() {
    let mut home = Home::new();
    home.set("STAND_IN_PULL", "fail");
    let run = home.install(&["--no-start"]).ends(7);
    let error = &run.result()["error"];
    assert_says(
        error["message"].as_str().unwrap(),
        &["pull", MODEL, "connection reset by peer", "Terms accepted."],
    );
    assert_eq!(run.step("model"), "failed");
    assert_eq!(home.invocations("pull"), 3, "the network may recover");
    assert_says(&home.doctor().stdout, &["was cut short", "5.0 kB"]);
    assert!(
        !home.settings().exists(),
        "nothing is switched on before the model is there"
    );

    home.set("STAND_IN_PULL", "");
    assert_eq!(home.install(&["--no-start"]).ok().changed(), ["model", "settings"]);
}

#[test]
fn a_pull_is_repeated_after_a_network_failure() {
    let mut home = Home::new();
    home.set("STAND_IN_PULL", "flaky");
    let run = home.install(&["--no-start"]).ok();
    assert_says(&run.stderr, &["connection reset by peer", "pulling again in"]);
    assert_eq!(home.invocations("pull"), 2);
}

#[test]
fn a_gated_model_names_the_variable() {
    const TOKEN: &str = "hf_aVerySecretToken";
    let mut home = Home::new();
    home.set("STAND_IN_PULL", "gated");
    let run = home.install(&["--no-start"]).ends(7);
    assert_says(
        run.result()["error"]["hint"].as_str().unwrap(),
        &["HUGGING_FACE_HUB_TOKEN"],
    );

    home.set("HUGGING_FACE_HUB_TOKEN", TOKEN);
    let run = home.install(&["-vv"]).ok();
    let pull = home
        .trace()
        .into_iter()
        .rfind(|event| event["invoked"][0] == "pull")
        .unwrap();
    assert_eq!(pull["token"], TOKEN, "it reaches the runtime");
    for text in [
        &run.stdout,
        &run.stderr,
        &home.gem(&["logs"]).ok().stdout,
        &home.doctor().stdout,
    ] {
        assert!(!text.contains(TOKEN), "{text}");
    }
    for (path, file) in super::harness::tree(&home.path(), &[]) {
        let bytes = file.map(|(bytes, _)| bytes).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&bytes).contains(TOKEN), "{}", path.display());
    }
}

#[cfg(unix)]
#[test]
fn a_token_that_the_runtime_prints_is_hidden() {
    const TOKEN: &str = "hf_aVerySecretToken";
    let lit = "#!/bin/sh\necho \"refused: $HUGGING_FACE_HUB_TOKEN\" >&2\nexit 1\n";
    let mut home = Home::publishing(lit.as_bytes());
    home.set("HUGGING_FACE_HUB_TOKEN", TOKEN);
    let run = home.install(&["--no-start"]).ends(7);
    assert_says(&run.stdout, &["refused: [hidden]"]);
    assert!(!run.stdout.contains(TOKEN) && !run.stderr.contains(TOKEN), "{run:#?}");
}

#[cfg(unix)]
#[test]
fn an_interrupted_pull_leaves_no_process_behind() {
    use rustix::process::{Pid, Signal, kill_process, test_kill_process};

    use super::harness::{finish, wait_until};

    let mut home = Home::new();
    home.set("STAND_IN_PULL", "hang");
    let child = home.install(&["--no-start"]).spawn();
    wait_until("the pull begins", || home.invocations("pull") > 0);
    let pull = home
        .trace()
        .into_iter()
        .find(|event| event["invoked"][0] == "pull")
        .unwrap();
    let pull = Pid::from_raw(i32::try_from(pull["pid"].as_u64().unwrap()).unwrap()).unwrap();
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), Signal::INT).unwrap();
    let run = finish(child);
    assert_eq!(run.status, 130, "{run:#?}");
    assert_says(run.result()["error"]["message"].as_str().unwrap(), &["interrupted"]);
    wait_until("the pull has ended", || test_kill_process(pull).is_err());
    assert!(!home.layout().models().join(MODEL).exists());
}

/// Ctrl-C reaches the runtime too, whose end may be noticed first.
#[cfg(unix)]
#[test]
fn ctrl_c_that_ends_the_runtime_first_ends_the_pull_with_130() {
    use std::thread;
    use std::time::Duration;

    use rustix::process::{Pid, Signal, kill_process, test_kill_process};

    use super::harness::{finish, wait_until};

    let pid = |number: u64| Pid::from_raw(i32::try_from(number).unwrap()).unwrap();
    let mut home = Home::installed();
    home.set("STAND_IN_PULL", "hang");
    let before = home.invocations("pull");
    let child = home.gem(&["pull", "gemma3-other", "--json", "--accept-terms"]).spawn();
    wait_until("the pull begins", || home.invocations("pull") > before);
    let mut pulls = home.trace().into_iter().filter(|event| event["invoked"][0] == "pull");
    let runtime = pid(pulls.next_back().unwrap()["pid"].as_u64().unwrap());
    kill_process(runtime, Signal::INT).unwrap();
    thread::sleep(Duration::from_millis(100));
    kill_process(pid(child.id().into()), Signal::INT).unwrap();
    let run = finish(child);
    assert_eq!(run.status, 130, "{run:#?}");
    assert_eq!(run.changed(), Vec::<String>::new());
    assert_says(run.result()["error"]["message"].as_str().unwrap(), &["interrupted"]);
    wait_until("the pull has ended", || test_kill_process(runtime).is_err());
    assert_eq!(home.invocations("pull"), before + 1, "it was not begun again");
    assert!(!home.layout().models().join("gemma3-other").exists());
    assert!(!home.gem(&["list"]).ok().stdout.contains("gemma3-other"));
}

#[test]
fn a_model_that_nobody_knows_is_refused_with_the_names_that_there_are() {
    let home = Home::installed();
    let pulls = home.invocations("pull");
    for (args, says) in [
        (
            ["pull", "nosuch", "--accept-terms"].as_slice(),
            format!("the catalog has `{MODEL}`"),
        ),
        (&["pull", "gemma3-othr"], "did you mean `gemma3-other`?".to_owned()),
        (
            &["install", "--no-start", "--model", "nosuch"],
            "list --show-all".to_owned(),
        ),
    ] {
        let run = home.gem(args).ends(2);
        assert_says(&run.stderr, &["neither the catalog nor the runtime `lit`", &says]);
    }
    assert_eq!(home.invocations("pull"), pulls);
    assert_says(&home.gem(&["list"]).ok().stdout, &[MODEL]);

    let home = Home::new();
    // `lit` knows more names than the catalog, once it is installed.
    let install = |model: &str| home.install(&["--no-start", "--model", model]);
    // Gemini CLI takes the default name alone, so nothing would be routed.
    install("gemma3-other").ends(8);
    let run = install("gemma3-othr").ends(2);
    assert_says(
        &run.stderr,
        &[
            "neither the catalog nor the runtime `lit`",
            "did you mean `gemma3-other`?",
        ],
    );
}

#[test]
fn pull_fails_without_a_runtime() {
    let home = Home::new();
    let run = home.gem(&["pull", MODEL, "--accept-terms"]).ends(7);
    assert_says(&run.stderr, &[MODEL, "gem-setup install"]);
    let run = home.gem(&["pull", MODEL]).ends(3);
    assert_says(&run.stderr, &["terms", "gem-setup install --accept-terms"]);
    home.assert_untouched();
}

#[test]
fn list_names_pulled_and_available_models() {
    let home = Home::installed();
    assert_says(&home.gem(&["list"]).ok().stdout, &[MODEL]);
    assert_says(&home.gem(&["list", "--show_all"]).ok().stdout, &[MODEL, "other-model"]);
    let listing = home.gem(&["list", "--json"]).ok().json();
    assert_eq!(listing["models"][0], MODEL);
    assert_eq!(
        fs::read(home.layout().models().join(MODEL).join("model.litertlm")).unwrap(),
        MODEL_BYTES
    );
}

#[test]
fn list_fails_without_a_runtime() {
    let home = Home::new();
    for command in ["list", "smoke"] {
        let run = home.gem(&[command]).ends(7);
        assert_says(&run.stderr, &["gem-setup install"]);
    }
    let home = Home::installed();
    fs::remove_file(home.lit()).unwrap();
    assert_says(&home.gem(&["list"]).ends(7).stderr, &["`lit` is not installed"]);
}
