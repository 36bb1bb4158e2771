//! `install` ends with the verdict of `doctor`'s checks, and reports faults that it foresees before any download.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;

use serde_json::json;

use super::harness::{Gem, Home, Run, assert_says, tree};

/// `install` ends with `status` because of the fault `id`, which it foresees and which `doctor` finds too.
#[track_caller]
fn ends_with_fault(home: &Home, status: i32, id: &str, words: &[&str]) {
    let plan = home.install(&["--no-start", "--dry-run"]).ends(status);
    assert_eq!(home.mirror.asked(), Vec::<String>::new());
    plan_reports(&plan, status, words);

    let run = home.install(&["--no-start"]).ends(status);
    foresees(&run, words);
    assert_eq!(
        run.step("runtime"),
        "changed",
        "the other steps are useful all the same"
    );
    let result = run.result();
    assert_eq!(
        (&result["ok"], &result["error"]["exit"]),
        (&json!(false), &json!(status))
    );
    assert_says(result["error"]["message"].as_str().unwrap(), words);
    let doctor = home.doctor();
    let faults: BTreeSet<_> = doctor.faults().into_iter().collect();
    assert_eq!(faults, [id, "server.process"].map(str::to_owned).into());
    let fix = doctor.check(id)["fix"].clone();
    assert_says(result["error"]["hint"].as_str().unwrap(), &[fix.as_str().unwrap()]);

    let people = for_people(home, &["--no-start"]).ends(status);
    let in_home = format!("`{}/", home.path().display());
    let fix = fix.as_str().unwrap().replace(&in_home, "`~/");
    assert_says(
        &people.stdout,
        &["does not work: 1 fault remains", "nothing changed", id, &fix],
    );
    assert_says(&people.stdout, words);
}

/// The plan's error says that routing would not work; no warning says it too.
#[track_caller]
fn plan_reports(plan: &Run, status: i32, words: &[&str]) {
    let error = &plan.result()["error"];
    assert_eq!(error["exit"], status);
    assert_says(error["message"].as_str().unwrap(), words);
    assert!(!plan.stderr.contains("routing will still not work"), "{plan:#?}");
}

#[track_caller]
fn foresees(run: &Run, words: &[&str]) {
    let warning = run
        .stderr
        .lines()
        .find(|line| line.contains("routing will still not work"));
    assert_says(warning.unwrap_or_else(|| panic!("{run:#?}")), words);
}

/// `install` without `--json`.
fn for_people(home: &Home, more: &[&str]) -> Gem {
    let port = home.port.to_string();
    let gem = home.gem(&["install", "--accept-terms", "--port", &port]);
    gem.args(["--mirror", &home.mirror.url(), "--catalog"])
        .arg(home.catalog())
        .args(more)
}

#[test]
fn a_model_fixed_by_the_environment_is_no_success() {
    let mut home = Home::new();
    home.set("GEMINI_MODEL", "gemini-2.5-pro");
    ends_with_fault(&home, 10, "routing.override", &["GEMINI_MODEL", "gemini-2.5-pro"]);
}

#[test]
fn a_model_fixed_by_an_env_file_is_no_success() {
    let home = Home::new();
    fs::write(
        home.work().join(".env"),
        "export GEMINI_MODEL='gemini-2.5-pro' # mine\n",
    )
    .unwrap();
    ends_with_fault(&home, 10, "routing.override", &[".env", "gemini-2.5-pro"]);
}

#[test]
fn a_model_fixed_by_the_settings_is_no_success() {
    let home = Home::new();
    home.write(&home.settings(), "{ \"model\": { \"name\": \"gemini-2.5-pro\" } }");
    ends_with_fault(&home, 10, "routing.override", &["model.name", "gemini-2.5-pro"]);
}

#[test]
fn a_contradicting_system_file_is_no_success() {
    let home = Home::new();
    home.write(
        &home.beside("system/settings.json"),
        r#"{"experimental": {"gemmaModelRouter": {"enabled": false}}}"#,
    );
    ends_with_fault(&home, 8, "settings.shadowed", &["enabled", "system"]);
}

#[test]
fn a_refused_file_of_the_workspace_is_no_success() {
    let home = Home::new();
    let file = home.work().join(".gemini/settings.json");
    home.write(&file, "{ \"ui\": {}, }");
    ends_with_fault(&home, 8, "settings.file", &[file.to_str().unwrap(), "trailing comma"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "{ \"ui\": {}, }", "it is not ours");
}

#[test]
fn a_refused_file_is_foreseen_without_downloads_too() {
    let home = Home::new();
    home.write(&home.beside("system/settings.json"), "{ oops");
    let run = home.gem(&["install", "--runtime", "builtin", "--no-start"]).ends(8);
    foresees(&run, &["settings.json", "line 1"]);
}

#[test]
fn faults_of_several_kinds_end_with_status_ten() {
    let mut home = Home::new();
    home.set("GEMINI_MODEL", "gemini-2.5-pro");
    home.write(&home.work().join(".gemini/settings.json"), "{ \"ui\": {}, }");
    let run = home.install(&["--no-start"]).ends(10);
    assert_says(
        run.result()["error"]["message"].as_str().unwrap(),
        &["trailing comma", "GEMINI_MODEL"],
    );
    let people = for_people(&home, &["--no-start"]).ends(10);
    assert_says(
        &people.stdout,
        &["2 faults remain", "settings.file", "routing.override"],
    );
}

#[test]
fn marks_that_gemini_cli_refuses_are_removed_from_the_users_file() {
    for (text, mark) in [
        ("\u{feff}{\n  \"ui\": {}\n}\n", "byte order mark"),
        ("{\n  \"ui\": {},\n}\n", "trailing comma in line 2"),
        ("{\n  // a\u{a0}b\n  \"ui\": {}\n}\n", "space U+00A0 in line 2"),
    ] {
        let home = Home::new();
        home.write(&home.settings(), text);
        let plan = home.install(&["--no-start", "--dry-run"]).ok();
        assert_says(&plan.stdout, &[mark]);
        assert_eq!(home.doctor().check("settings.file")["status"], "fail");
        let run = home.install(&["--no-start"]).ok();
        assert_says(&run.stdout, &[mark]);
        assert_eq!(home.doctor().check("settings.file")["status"], "ok");
        let backups = tree(&home.layout().backups(), &[]);
        assert!(
            backups
                .into_values()
                .flatten()
                .any(|(bytes, _)| bytes == text.as_bytes())
        );
        home.gem(&["uninstall"]).ok();
        assert_eq!(fs::read_to_string(home.settings()).unwrap(), text);

        let applied = home.gem(&["settings", "apply"]).ok();
        assert_says(&applied.stdout, &[mark]);
        assert_eq!(home.doctor().check("settings.file")["status"], "ok");
    }
}

#[test]
fn marks_inside_values_are_named_and_kept() {
    let home = Home::new();
    let text = "{\n  \"ui\": \"a\tb\"\n}\n";
    home.write(&home.settings(), text);
    for gem in [home.install(&["--no-start"]), home.gem(&["settings", "apply"])] {
        let run = gem.ends(8);
        assert_says(&run.stderr, &["settings.json", "control character", "line 2"]);
        assert_eq!(fs::read_to_string(home.settings()).unwrap(), text);
    }
    assert_eq!(home.mirror.asked(), Vec::<String>::new());
}

#[test]
fn left_out_parts_are_reported() {
    let home = Home::new();
    let all = ["--no-settings", "--no-start", "--no-model", "--no-smoke"];
    let run = home.install(&all).ok();
    assert_eq!(run.result()["ok"], true);
    assert_eq!(
        run.result()["left_out"],
        json!(["--no-model", "--no-settings", "--no-start", "--no-smoke"])
    );
    let people = for_people(&home, &all).ok();
    assert_says(
        &people.stdout,
        &[
            "does not work yet",
            "settings.router",
            "(--no-settings)",
            "server.process",
            "(--no-start)",
            "model.present",
            "(--no-model)",
            "(--no-smoke)",
        ],
    );
}

/// A plain `install` would choose the runtime again.
#[test]
fn advice_keeps_the_options_that_were_given() {
    let home = Home::new();
    let _other = TcpListener::bind(("127.0.0.1", home.port)).unwrap();
    let port = home.port.to_string();
    let install = ["install", "--runtime", "builtin", "--no-settings", "--port", &port];
    let hint = home.gem(&install).ends(9).stderr;
    assert_says(
        &hint,
        &["gem-setup install --port ", " --runtime builtin --no-settings"],
    );
    assert_eq!(hint.matches("--port").count(), 1, "{hint}");
}

#[test]
fn a_taken_port_is_a_fault_without_a_start_too() {
    let home = Home::new();
    let _other = TcpListener::bind(("127.0.0.1", home.port)).unwrap();
    let port = home.port.to_string();
    let words = [port.as_str(), "taken"];
    for more in [
        ["--no-start"].as_slice(),
        &["--no-start", "--no-settings", "--no-model"],
    ] {
        let plan = home.install(more).arg("--dry-run").ends(9);
        plan_reports(&plan, 9, &words);
        let run = home.install(more).ends(9);
        foresees(&run, &words);
        assert_says(run.result()["error"]["hint"].as_str().unwrap(), &["install --port"]);
        home.gem(&["uninstall"]).ok();
    }
    assert_says(
        &for_people(&home, &["--no-start"]).ends(9).stdout,
        &["FAIL server.port"],
    );
}

#[test]
fn the_next_steps_begin_with_left_out_parts() {
    let home = Home::new();
    let run = for_people(&home, &["--no-start"]).ok();
    assert_says(&run.stderr, &["What to do next:\n  first run `gem-setup start"]);
    let run = for_people(&home, &["--no-start", "--no-settings", "--no-model", "--no-smoke"]).ok();
    assert_says(&run.stderr, &["What to do next:\n  first run `gem-setup start"]);
    let home = Home::new();
    let run = for_people(&home, &["--no-start", "--no-settings", "--no-model"]).ok();
    assert_says(&run.stderr, &["What to do next:\n  first run `gem-setup doctor --fix"]);
    home.gem(&["doctor", "--fix", "--accept-terms"]).ok();
    home.gem(&["status"]).ok();
}

#[test]
fn present_parts_are_not_reported_as_left_out() {
    let home = Home::serving();
    let run = home
        .install(&["--no-settings", "--no-start", "--no-model", "--no-smoke"])
        .ok();
    assert_eq!(run.result().get("left_out"), None, "routing works");
}

#[test]
fn next_steps_have_the_values_of_this_machine() {
    let home = Home::new();
    let run = for_people(&home, &[]).env("GEMINI_API_KEY", "k").ok();
    let url = format!("http://127.0.0.1:{}", home.port);
    assert_says(
        &run.stderr,
        &["gemini -m gem-auto", &url, "selectedType", "~/.gemini/settings.json"],
    );
    let run = home.install(&[]).ok();
    assert!(!run.stderr.contains("gem-auto"), "{run:#?}");
    let run = for_people(&home, &["--quiet"]).ok();
    assert!(!run.stderr.contains("gem-auto"), "{run:#?}");
}

#[test]
fn doctor_checks_the_login_against_the_gateway() {
    let login = |settings: &str, variables: &[(&'static str, &str)]| {
        let mut home = Home::new();
        home.write(&home.settings(), settings);
        for (name, value) in variables {
            home.set(name, *value);
        }
        let check = home.doctor().check("client.login");
        let text = |key: &str| check[key].as_str().unwrap_or_default().to_owned();
        (text("status"), text("detail"))
    };
    let key = ("GEMINI_API_KEY", "k");
    let selected = |kind: &str| format!("{{\"security\": {{\"auth\": {{\"selectedType\": \"{kind}\"}}}}}}");
    let (status, _) = login(&selected("gemini-api-key"), &[key]);
    assert_eq!(status, "ok");
    let (status, detail) = login(&selected("oauth-personal"), &[key]);
    assert_eq!(status, "warn");
    assert_says(&detail, &["oauth-personal", "does not reach"]);
    let (status, detail) = login("{}", &[key]);
    assert_eq!(status, "warn");
    assert_says(&detail, &["selectedType", "status 41"]);
    let (status, detail) = login("{}", &[("GOOGLE_GENAI_USE_VERTEXAI", "true")]);
    assert_eq!(status, "warn");
    assert_says(&detail, &["GOOGLE_GENAI_USE_VERTEXAI"]);
    let (status, detail) = login("{}", &[]);
    assert_eq!(status, "warn");
    assert_says(&detail, &["GEMINI_API_KEY", "status 41"]);
}
