//! `install` without faults: its steps, its output, its options to leave steps out.

use std::fs;

use gem_setup_support::mirror::sha256_hex;
use serde_json::{Value, json};

use super::harness::{Home, MODEL, OF_THE_SERVER, TERMS, assert_same, assert_says, free_port, tree};

const STEPS: [&str; 9] = [
    "platform",
    "space",
    "runtime",
    "companions",
    "terms",
    "model",
    "settings",
    "server",
    "smoke",
];

#[test]
fn an_empty_home_becomes_ready_and_a_second_run_changes_nothing() {
    let home = Home::new();
    let first = home.install(&[]).ok();
    assert_eq!(
        first.changed(),
        ["runtime", "terms", "model", "settings", "server", "smoke"]
    );
    assert_eq!(first.step("companions"), "skipped");
    assert_eq!(home.gem(&["status", "--json"]).run().json()["ready"], true);

    let before = tree(&home.path(), &OF_THE_SERVER);
    let asked = home.mirror.asked();
    let second = home.install(&[]).ok();
    assert_eq!(second.changed(), Vec::<String>::new());
    assert!(
        second
            .steps()
            .iter()
            .all(|(_, state)| state == "ok" || state == "skipped"),
        "{second:#?}"
    );
    assert_same(&before, &tree(&home.path(), &OF_THE_SERVER));
    assert_eq!(home.mirror.asked(), asked);
    assert_eq!(home.invocations("pull"), 1);
    assert_eq!(home.invocations("serve"), 1);
}

#[test]
fn a_second_run_needs_no_terms_option_and_reports_no_change() {
    let home = Home::installed();
    let port = home.port.to_string();
    let run = home
        .gem(&["install", "--no-start", "--port", &port, "--catalog"])
        .arg(home.catalog())
        .ok();
    assert_says(
        &run.stdout,
        &["nothing changed", "does not work yet", "--no-start", "gem-setup start"],
    );
    home.gem(&["start"]).ok();
    let run = home
        .gem(&["install", "--no-smoke", "--port", &port, "--catalog"])
        .arg(home.catalog())
        .ok();
    assert_says(&run.stdout, &["Everything is in place; nothing changed.", "--no-smoke"]);
}

#[test]
fn a_later_run_uses_and_reports_recorded_options() {
    let home = Home::new();
    let port = home.port.to_string();
    let work = home.work();
    home.gem(&[
        "install",
        "--runtime",
        "builtin",
        "--scope",
        "workspace",
        "--port",
        &port,
    ])
    .env("GEMINI_CLI_TRUST_WORKSPACE", "true")
    .ok();
    let before = tree(&home.path(), &OF_THE_SERVER);
    let run = home
        .gem(&["install", "--json"])
        .env("GEMINI_CLI_TRUST_WORKSPACE", "true")
        .ok();
    assert_eq!(run.changed(), Vec::<String>::new());
    let options = ["--runtime builtin", "--scope workspace", &format!("--port {port}")];
    assert_says(&run.stderr, &options);
    assert_same(&before, &tree(&home.path(), &OF_THE_SERVER));
    assert!(work.join(".gemini/settings.json").exists());

    // A flag overrides the record, from whichever layer.
    let other = free_port().to_string();
    let plan = |gem: super::harness::Gem| {
        let gem = gem.env("GEMINI_CLI_TRUST_WORKSPACE", "true");
        let run = gem.args(["install", "--dry-run", "--json"]).ok();
        let events = run.events();
        let settings = events.iter().find(|event| event["id"] == "settings").unwrap();
        settings["detail"].as_str().unwrap().to_owned()
    };
    assert_says(&plan(home.gem(&[]).env("GEM_SETUP_PORT", &other)), &[&other]);
    home.write(&home.layout().config_file(), &format!("port = {other}\n"));
    assert_says(&plan(home.gem(&[])), &[&other]);
}

#[test]
fn mirror_only_is_kept_by_later_runs() {
    let home = Home::new();
    home.install(&["--no-start", "--mirror-only"]).ok();
    fs::remove_file(home.lit()).unwrap();
    home.mirror.publish(Home::LIT, b"something else".to_vec());
    let run = home.gem(&["doctor", "--fix"]).ends(6);
    assert!(!run.stderr.contains("github.com"), "{run:#?}");
    let run = home.gem(&["doctor", "--network", "--json"]).ends(10);
    let detail = run.check("network.runtime")["detail"].to_string();
    assert_eq!(detail.matches("directly").count(), 1, "{detail}");
}

#[test]
fn the_events_are_nine_steps_in_order_and_the_result() {
    let home = Home::new();
    let run = home.install(&[]).ok();
    let ids: Vec<String> = run.steps().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, STEPS);
    for event in run.events() {
        match event["event"].as_str().unwrap() {
            "step" => assert!(event["detail"].is_string(), "{event}"),
            "progress" => {
                assert!(STEPS.iter().any(|id| event["id"] == *id), "{event}");
                assert!(event["done"].is_u64(), "{event}");
                assert!(event["total"].is_u64() || event["total"].is_null(), "{event}");
            }
            "result" => assert_eq!((&event["ok"], &event["error"]), (&json!(true), &Value::Null)),
            other => panic!("unknown event `{other}`"),
        }
    }
    assert_eq!(run.result()["event"], "result");
}

#[test]
fn the_events_of_a_failed_run_are_nine_steps_too() {
    let home = Home::new();
    home.write_catalog(&"0".repeat(64), None);
    let run = home.install(&[]).ends(6);
    let ids: Vec<String> = run.steps().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, STEPS);
    assert_eq!(run.step("runtime"), "failed");
    assert_eq!(run.step("smoke"), "skipped");
    let error = &run.result()["error"];
    assert_eq!((&error["exit"], &error["kind"]), (&json!(6), &json!("verification")));
    assert!(!error["hint"].as_str().unwrap().is_empty());
}

#[test]
fn for_people_the_steps_go_to_standard_error() {
    let home = Home::new();
    let port = home.port.to_string();
    let run = home
        .gem(&["install", "--accept-terms", "--port", &port])
        .args(["--mirror", &home.mirror.url(), "--catalog"])
        .arg(home.catalog())
        .ok();
    assert_eq!(
        run.stdout,
        "Local model routing is set up; changed: runtime, terms, model, settings, server, smoke.\n"
    );
    for id in STEPS.into_iter().filter(|id| *id != "companions") {
        assert_says(&run.stderr, &[id]);
    }
    let verbose = home.gem(&["-v", "install", "--no-start"]).ok();
    assert_says(&verbose.stderr, &["skipped companions"]);
    assert!(
        !run.stderr.contains('\u{1b}'),
        "no colour where there is no terminal: {run:#?}"
    );

    let quiet = home
        .gem(&["--quiet", "install", "--no-start", "--catalog"])
        .arg(home.catalog())
        .ok();
    assert_eq!(quiet.stderr, "");
}

#[test]
fn the_settings_point_gemini_cli_at_the_server() {
    let home = Home::new();
    home.install(&["--no-start"]).ok();
    assert_eq!(
        home.router(),
        json!({
            "enabled": true,
            "autoStartServer": true,
            "binaryPath": home.launcher(),
            "classifier": {"host": format!("http://localhost:{}", home.port), "model": MODEL},
        })
    );
}

#[test]
fn other_commands_use_the_recorded_options() {
    let home = Home::serving();
    let status = home.gem(&["status", "--json"]).run().json();
    assert_eq!(status["port"], home.port);
    assert_eq!((&status["runtime"], &status["model"]), (&json!("lit"), &json!(MODEL)));
    let smoke = home.gem(&["smoke", "--json"]).ok().json();
    assert_eq!(
        (&smoke["ok"], &smoke["probes"][1]["got"]),
        (&json!(true), &json!("pro"))
    );
    assert_says(&home.gem(&["list"]).ok().stdout, &[MODEL]);
    assert_eq!(home.doctor().status, 0);
    let state: Value = serde_json::from_str(&fs::read_to_string(home.layout().state_file()).unwrap()).unwrap();
    assert_eq!(state["version"], "v9");
    assert_eq!(state["scope"], "user");
}

#[test]
fn a_changed_port_moves_the_server_and_the_settings() {
    let mut home = Home::serving();
    let old = home.port;
    home.port = free_port();
    let run = home.install(&[]).ok();
    assert_eq!(run.changed(), ["settings", "server", "smoke"]);
    assert_eq!(home.gem(&["status", "--json"]).run().json()["port"], home.port);
    assert_eq!(
        home.router()["classifier"]["host"],
        format!("http://localhost:{}", home.port)
    );
    assert!(std::net::TcpStream::connect(("127.0.0.1", old)).is_err());
}

#[test]
fn a_new_version_is_installed_beside_the_old_one() {
    let home = Home::installed();
    let mut newer = super::harness::executable();
    newer.extend_from_slice(b"\n");
    home.mirror.publish(Home::LIT, newer.clone());
    home.write_catalog(&sha256_hex(&newer), None);
    let run = home.install(&["--no-start"]).ok();
    assert_eq!(run.changed(), ["runtime"]);
    assert_eq!(fs::read(home.lit_in_use()).unwrap(), newer);
    assert_ne!(home.lit_in_use(), home.lit());
}

#[test]
fn force_applies_every_step_again() {
    let home = Home::serving();
    let first = home.processes();
    let run = home.install(&["--force"]).ok();
    assert_eq!(run.changed(), ["runtime", "model", "server", "smoke"]);
    assert_eq!(home.mirror.asked().len(), 2);
    assert_eq!(home.invocations("pull"), 2);
    assert_ne!(home.processes(), first);
}

#[test]
fn left_out_steps_are_skipped() {
    let home = Home::new();
    let run = home
        .install_unaccepted(&["--no-model", "--no-settings", "--no-smoke"])
        .ok();
    assert_eq!(run.changed(), ["runtime", "server"]);
    for id in ["terms", "model", "settings", "smoke"] {
        assert_eq!(run.step(id), "skipped", "{id}");
    }
    assert!(!home.settings().exists());
    assert!(!home.layout().terms_file().exists());
    assert_eq!(home.invocations("pull"), 0);
}

#[test]
fn an_acceptance_without_a_model_is_recorded() {
    let home = Home::new();
    let run = home.install(&["--no-model", "--no-start"]).ok();
    assert_eq!(
        (run.step("terms"), run.step("model")),
        ("changed".into(), "skipped".into())
    );
    assert!(home.layout().terms_file().exists());
    // Accepted terms are not asked for again.
    home.install_unaccepted(&["--no-start"]).ok();
}

#[test]
fn without_a_start_there_is_no_server_and_no_smoke_test() {
    let home = Home::new();
    let run = home.install(&["--no-start"]).ok();
    assert_eq!(run.changed(), ["runtime", "terms", "model", "settings"]);
    assert_eq!(
        (run.step("server"), run.step("smoke")),
        ("skipped".to_owned(), "skipped".to_owned())
    );
    assert_eq!(home.invocations("serve"), 0);
    assert!(!home.layout().pid_file().exists());
}

#[test]
fn the_workspace_scope_leaves_only_the_executable_to_the_user_scope() {
    let home = Home::new();
    let install = home.install(&["--no-start", "--scope", "workspace"]);
    install.env("GEMINI_CLI_TRUST_WORKSPACE", "true").ok();
    assert_eq!(
        home.router(),
        json!({"autoStartServer": true, "binaryPath": home.launcher()})
    );
    let text = fs::read_to_string(home.work().join(".gemini/settings.json")).unwrap();
    let workspace: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        workspace["experimental"]["gemmaModelRouter"],
        json!({"enabled": true, "classifier": {"host": format!("http://localhost:{}", home.port), "model": MODEL}})
    );
}

#[test]
fn a_dry_run_prints_the_plan_and_changes_nothing() {
    let home = Home::new();
    let run = home.install_unaccepted(&["--dry-run"]).ok();
    assert_eq!(
        run.changed(),
        ["runtime", "terms", "model", "settings", "server", "smoke"]
    );
    let plan: Vec<String> = run
        .events()
        .iter()
        .filter_map(|event| event["detail"].as_str().map(str::to_owned))
        .collect();
    let plan = plan.join("\n");
    assert_says(
        &plan,
        &[
            "would download",
            &home.mirror.url(),
            TERMS,
            MODEL,
            "settings.json",
            &home.port.to_string(),
        ],
    );
    home.assert_untouched();
}

#[test]
fn a_dry_run_on_a_ready_machine_plans_nothing() {
    let home = Home::installed();
    let before = tree(&home.path(), &[]);
    assert_eq!(
        home.install(&["--no-start", "--dry-run"]).ok().changed(),
        Vec::<String>::new()
    );
    assert_eq!(
        home.install(&["--no-start", "--dry-run", "--force"]).ok().changed(),
        ["runtime", "model"]
    );
    assert_same(&before, &tree(&home.path(), &[]));
}

#[test]
fn a_plan_for_another_platform_ignores_these_settings() {
    let home = Home::new();
    home.write(&home.settings(), "not JSON");
    let target = if cfg!(windows) {
        "linux-x86_64"
    } else {
        "windows-x86_64"
    };
    let run = home.gem(&["install", "--json", "--dry-run", "--target", target]).ok();
    assert_eq!(run.step("settings"), "changed");
    assert!(!run.stdout.contains("settings.json"), "{run:#?}");
}

#[test]
fn a_dry_run_plans_for_the_other_platforms() {
    let home = Home::new();
    for (target, file) in [
        ("windows-x86_64", "lit.windows_x86_64.exe"),
        ("macos-arm64", "lit.macos_arm64"),
    ] {
        let run = home.gem(&["install", "--json", "--dry-run", "--target", target]).ok();
        let text = &run.stdout;
        assert_says(text, &[file]);
        assert_eq!(
            run.step("companions") == "changed",
            target.starts_with("windows"),
            "{text}"
        );
        assert_eq!(text.contains("dxil.dll"), target.starts_with("windows"), "{text}");
    }
    home.assert_untouched();
}

#[test]
fn a_smoke_test_does_not_count_for_another_platform() {
    let home = Home::new();
    let port = home.port.to_string();
    let builtin = ["--json", "--runtime", "builtin", "--port", &port];
    home.gem(&["install"]).args(builtin).ok();
    let here = home.gem(&["install", "--dry-run"]).args(builtin).ok();
    assert_eq!(here.step("smoke"), "ok");
    let there = home.gem(&["install", "--dry-run", "--target", "windows-x86_64"]);
    assert_eq!(there.args(builtin).ok().step("smoke"), "changed");
}

#[test]
fn the_port_that_a_server_leaves_is_named() {
    let home = Home::new();
    let (first, second) = (home.port.to_string(), free_port().to_string());
    home.gem(&["install", "--runtime", "builtin", "--port", &first]).ok();
    let run = home.gem(&["install", "--port", &second]).ok();
    assert_says(&run.stderr, &[&format!("on port {first} was stopped")]);
    let again = home.gem(&["install"]).ok();
    assert!(!again.stderr.contains("was stopped"), "{}", again.stderr);
}

#[test]
fn a_platform_without_a_build_is_refused() {
    let home = Home::new();
    let run = home
        .gem(&[
            "install",
            "--json",
            "--runtime",
            "lit",
            "--dry-run",
            "--target",
            "linux-arm64",
        ])
        .ends(4);
    let error = &run.result()["error"];
    assert_says(error["message"].as_str().unwrap(), &["lit", "linux-arm64"]);
    assert_says(
        error["hint"].as_str().unwrap(),
        &["--catalog FILE", "--runtime litert-lm", "--runtime builtin"],
    );
    assert_eq!(run.step("platform"), "failed");
    home.assert_untouched();
    let other = home
        .gem(&[
            "install",
            "--json",
            "--runtime",
            "lit",
            "--dry-run",
            "--target",
            "macos-x86_64",
        ])
        .ends(4);
    assert!(
        !other.stdout.contains("--catalog"),
        "no catalog can have what was never published"
    );
}

#[test]
fn every_platform_gets_a_runtime_with_a_reason() {
    let home = Home::new();
    for (target, runtime, reason) in [
        ("linux-x86_64", "lit", "the catalog has a build of it"),
        ("linux-arm64", "litert-lm", "no build of `lit` for linux-arm64"),
        ("macos-x86_64", "builtin", "and none of `litert-lm`"),
        ("windows-arm64", "builtin", "and none of `litert-lm`"),
    ] {
        // This machine's own requirements for `lit` are tested elsewhere.
        let run = home.gem(&["install", "--json", "--dry-run", "--target", target]).run();
        let chosen = format!("chose the runtime `{runtime}`: ");
        assert_says(&run.stderr, &[&chosen, reason]);
        assert_eq!(run.step("platform"), "ok", "{run:#?}");
    }
    home.assert_untouched();
}

#[test]
fn a_bare_install_with_only_builtin_succeeds_and_is_recorded() {
    let home = Home::new();
    fs::write(home.catalog(), "format = 1\n").unwrap();
    let run = home.install_unaccepted(&[]).ok();
    assert_says(&run.stderr, &["chose the runtime `builtin`: "]);
    let status = home.gem(&["status", "--json"]).ok().json();
    assert_eq!(
        (&status["runtime"], &status["ready"]),
        (&json!("builtin"), &json!(true))
    );
    // The record is used, even if another catalog would lead to another choice.
    home.write_catalog(&sha256_hex(b"another"), None);
    let run = home.install_unaccepted(&[]).ok();
    assert!(!run.stderr.contains("chose the runtime"), "{run:#?}");
    assert_says(&run.stderr, &["--runtime builtin"]);
}

#[test]
fn without_a_gateway_the_runtime_itself_has_the_port() {
    let home = Home::new();
    assert_eq!(home.install(&["--direct"]).ok().step("server"), "changed");
    let status = home.gem(&["status", "--json"]).run().json();
    assert_eq!(
        (&status["child"]["port"], &status["ready"]),
        (&json!(home.port), &json!(true))
    );
    assert_eq!(home.doctor().status, 0);
    assert_eq!(home.install(&["--direct"]).ok().changed(), Vec::<String>::new());
    assert_eq!(
        home.install(&[]).ok().changed(),
        ["server", "smoke"],
        "the gateway comes when it is asked for"
    );
    assert_ne!(home.gem(&["status", "--json"]).run().json()["child"]["port"], home.port);
}

#[test]
fn a_blocked_plan_changes_nothing() {
    let home = Home::new();
    let run = home
        .gem(&[
            "install",
            "--runtime",
            "lit",
            "--dry-run",
            "--json",
            "--target",
            "macos-x86_64",
        ])
        .ends(4);
    assert_eq!(run.changed(), Vec::<String>::new());
    let steps = run.steps();
    assert!(!steps.iter().any(|(_, state)| state == "changed"), "{steps:?}");
    assert_eq!(run.step("platform"), "failed");
}
