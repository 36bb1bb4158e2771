//! `doctor` on an empty home, on a healthy one, and with each single fault.

mod advice;
mod server;

use std::fs;

use serde_json::json;

#[cfg(target_os = "linux")]
use crate::harness::executable;
use crate::harness::{Gem, Home, MODEL, OF_THE_SERVER, Run, assert_same, assert_says, is_default_port_taken, tree};

/// Runs `doctor` on `home`. Exactly the checks `ids` must fail, and each must name its fix.
#[track_caller]
fn faulty(home: &Home, ids: &[&str]) -> Run {
    let before = tree(&home.path(), &OF_THE_SERVER);
    let run = home.doctor();
    assert_eq!(run.faults(), ids, "{run:#?}");
    assert_eq!((run.status, run.json()["ok"].clone()), (10, json!(false)), "{run:#?}");
    for id in ids {
        assert!(
            !run.check(id)["fix"].as_str().unwrap_or_default().is_empty(),
            "`{id}` names no fix: {run:#?}"
        );
    }
    let after = tree(&home.path(), &OF_THE_SERVER);
    assert_same(&before, &after);
    run
}

/// The fault `id` contains `words`, its fix contains `fix`.
#[track_caller]
fn says(run: &Run, id: &str, words: &[&str], fix: &str) {
    let check = run.check(id);
    assert_says(check["detail"].as_str().unwrap(), words);
    assert_says(check["fix"].as_str().unwrap(), &[fix]);
}

/// `doctor --fix` repairs `home`, and the next `doctor` finds no fault.
#[track_caller]
fn repairs(home: &Home) {
    let run = home.gem(&["doctor", "--fix", "--json"]).ok();
    assert_eq!(run.faults(), Vec::<String>::new());
    assert_eq!(home.doctor().status, 0);
}

#[test]
fn a_healthy_home_has_no_fault() {
    let home = Home::serving();
    let run = home.doctor();
    assert_eq!(run.status, 0, "{run:#?}");
    assert_eq!(run.json()["ok"], true);
    for check in run.json()["checks"].as_array().unwrap() {
        let id = check["id"].as_str().unwrap();
        assert!(id.split_once('.').is_some(), "{id}");
        assert!(
            ["ok", "warn", "skip"].contains(&check["status"].as_str().unwrap()),
            "{check}"
        );
        assert!(
            !check["title"].as_str().unwrap().is_empty() && check["detail"].is_string(),
            "{check}"
        );
        assert_eq!(check["fix"].is_null(), check["status"] != "warn", "{check}");
    }
    for id in [
        "runtime.binary",
        "runtime.checksum",
        "runtime.executable",
        "model.present",
        "model.terms",
        "server.process",
        "server.port",
        "server.health",
        "settings.file",
        "settings.router",
        "settings.shadowed",
        "client.launcher",
        "routing.override",
        "platform.target",
        "platform.disk",
    ] {
        assert_eq!(run.check(id)["status"], "ok", "{id}");
    }
}

#[test]
fn every_check_of_the_contract_is_there() {
    let home = Home::new();
    let report = home.doctor().json();
    let ids: Vec<&str> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| check["id"].as_str().unwrap())
        .collect();
    let mut distinct = ids.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), ids.len(), "{ids:?}");
    for id in [
        "runtime.loader",
        "platform.memory",
        "platform.gpu",
        "platform.companions",
        "platform.quarantine",
        "client.gemini",
    ] {
        assert!(ids.contains(&id), "{id} is not in {ids:?}");
    }
}

#[test]
fn doctor_on_an_empty_home_writes_nothing() {
    let home = Home::new();
    let run = home.doctor();
    assert_eq!(run.status, 10);
    let server = if is_default_port_taken() {
        "server.port"
    } else {
        "server.process"
    };
    assert_eq!(
        run.faults(),
        [
            "runtime.binary",
            "model.terms",
            "model.present",
            "settings.router",
            "client.launcher",
            server
        ]
    );
    home.assert_untouched();
}

#[test]
fn a_missing_binary_is_named() {
    let home = Home::serving();
    fs::remove_file(home.lit()).unwrap();
    says(
        &faulty(&home, &["runtime.binary"]),
        "runtime.binary",
        &[home.lit().to_str().unwrap(), "missing"],
        "doctor --fix",
    );
    repairs(&home);
}

#[test]
fn a_corrupt_binary_is_named_with_both_hashes() {
    let home = Home::serving();
    // Still a program that runs: only its hash shows the change.
    let mut bytes = fs::read(home.lit()).unwrap();
    let modified = fs::metadata(home.lit()).unwrap().modified().unwrap();
    bytes.push(b'\n');
    fs::remove_file(home.lit()).unwrap();
    fs::write(home.lit(), bytes).unwrap();
    // A runtime newer than its server would be another fault.
    let file = fs::File::options().write(true).open(home.lit()).unwrap();
    file.set_modified(modified).unwrap();
    drop(file);
    #[cfg(unix)]
    make_executable(&home);
    let run = faulty(&home, &["runtime.checksum"]);
    says(
        &run,
        "runtime.checksum",
        &[home.lit().to_str().unwrap(), "SHA-256", "catalog"],
        "doctor --fix",
    );
    repairs(&home);
}

#[cfg(unix)]
fn make_executable(home: &Home) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(home.lit(), fs::Permissions::from_mode(0o755)).unwrap();
}

#[cfg(unix)]
#[test]
fn a_binary_without_execute_permission_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::serving();
    fs::set_permissions(home.lit(), fs::Permissions::from_mode(0o644)).unwrap();
    let run = faulty(&home, &["runtime.executable"]);
    says(&run, "runtime.executable", &[home.lit().to_str().unwrap()], "chmod +x");
    repairs(&home);
    assert_eq!(
        home.mirror.asked().len(),
        1,
        "the bytes are right: nothing is downloaded again"
    );
}

#[test]
fn a_missing_model_is_named() {
    let home = Home::serving();
    fs::remove_dir_all(home.layout().models().join(MODEL)).unwrap();
    says(
        &faulty(&home, &["model.present"]),
        "model.present",
        &[MODEL],
        "doctor --fix",
    );
    repairs(&home);
}

#[test]
fn unrecorded_terms_are_named() {
    let home = Home::serving();
    fs::remove_file(home.layout().terms_file()).unwrap();
    says(
        &faulty(&home, &["model.terms"]),
        "model.terms",
        &[MODEL],
        "--accept-terms",
    );
    home.gem(&["doctor", "--fix"]).ends(3);
    home.gem(&["doctor", "--fix", "--accept-terms"]).ok();
    let how = || {
        let text = fs::read_to_string(home.layout().terms_file()).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["accepted"][0]["how"].take()
    };
    assert_eq!(how(), "flag");

    fs::remove_file(home.layout().terms_file()).unwrap();
    home.gem(&["doctor", "--fix"]).env("GEM_SETUP_ACCEPT_TERMS", "1").ok();
    assert_eq!(how(), "env");
}

#[test]
fn a_disabled_router_is_named() {
    let home = Home::serving();
    let text = fs::read_to_string(home.settings()).unwrap();
    fs::write(home.settings(), text.replace("\"enabled\": true", "\"enabled\": false")).unwrap();
    let run = faulty(&home, &["settings.router"]);
    says(
        &run,
        "settings.router",
        &["enabled", home.settings().to_str().unwrap()],
        "doctor --fix",
    );
    repairs(&home);
}

#[test]
fn settings_that_do_not_parse_are_named_with_the_line() {
    let home = Home::serving();
    fs::write(home.settings(), "{\n  oops\n}").unwrap();
    let run = faulty(&home, &["settings.file"]);
    says(
        &run,
        "settings.file",
        &[home.settings().to_str().unwrap(), "line 2"],
        "line 2",
    );
}

#[test]
fn a_shadowing_workspace_file_is_named_in_a_trusted_folder() {
    let home = Home::serving();
    let workspace = home.work().join(".gemini/settings.json");
    home.write(
        &workspace,
        r#"{"experimental": {"gemmaModelRouter": {"enabled": false}}}"#,
    );
    assert_eq!(
        home.doctor().status,
        0,
        "in a directory that is not trusted it does not count"
    );

    let trusted = json!({home.work().to_str().unwrap(): "TRUST_FOLDER"});
    home.write(
        &home.layout().gemini().join("trustedFolders.json"),
        &trusted.to_string(),
    );
    let run = faulty(&home, &["settings.shadowed"]);
    says(
        &run,
        "settings.shadowed",
        &["enabled", workspace.to_str().unwrap(), "workspace"],
        "` out of `",
    );
    let elsewhere = home.gem(&["doctor", "--json"]).within(&home.path()).run();
    assert_eq!(elsewhere.status, 0, "{elsewhere:#?}");
}

#[test]
fn a_system_file_that_shadows_the_users_is_named() {
    let home = Home::serving();
    let system = home.beside("system/settings.json");
    home.write(
        &system,
        r#"{"experimental": {"gemmaModelRouter": {"classifier": {"host": "http://localhost:1"}}}}"#,
    );
    let run = faulty(&home, &["settings.shadowed"]);
    says(
        &run,
        "settings.shadowed",
        &["classifier.host", system.to_str().unwrap(), "system"],
        "` out of `",
    );
    let fix = run.check("settings.shadowed")["fix"].to_string();
    assert!(!fix.contains("directory"), "it cannot help: {fix}");
}

#[test]
fn a_model_that_the_environment_fixes_is_named() {
    let mut home = Home::serving();
    home.set("GEMINI_MODEL", "gemini-2.5-pro");
    let run = faulty(&home, &["routing.override"]);
    says(
        &run,
        "routing.override",
        &["GEMINI_MODEL", "gemini-2.5-pro"],
        "unset GEMINI_MODEL",
    );
    home.set("GEMINI_MODEL", "auto");
    assert_eq!(home.doctor().status, 0, "`auto` is routed");
}

#[test]
fn a_model_that_an_env_file_or_the_settings_fix_is_named() {
    let home = Home::serving();
    let file = home.work().join(".env");
    fs::write(&file, "OTHER=1\nGEMINI_MODEL=\"gemini-2.5-flash\"\n").unwrap();
    let run = faulty(&home, &["routing.override"]);
    says(
        &run,
        "routing.override",
        &["gemini-2.5-flash", file.to_str().unwrap()],
        &format!("GEMINI_MODEL from `{}`", file.display()),
    );
    fs::remove_file(&file).unwrap();

    let text = fs::read_to_string(home.settings()).unwrap();
    fs::write(
        home.settings(),
        text.replacen('{', "{\"model\": {\"name\": \"gemini-2.5-flash\"},", 1),
    )
    .unwrap();
    let run = faulty(&home, &["routing.override"]);
    says(
        &run,
        "routing.override",
        &["model.name", "gemini-2.5-flash"],
        "model.name",
    );
}

#[test]
fn an_env_file_counts_as_gemini_cli_reads_it() {
    let mut home = Home::installed();
    home.write(&home.work().join(".env"), "GEMINI_MODEL=gemini-2.5-flash # fast\n");
    let status = |home: &Home| home.doctor().check("routing.override")["status"].clone();
    assert_eq!(status(&home), "fail", "Gemini CLI asks whether to trust the directory");

    home.write(&home.work().join(".gemini/.env"), "OTHER=1\n");
    assert_eq!(status(&home), "ok", "the first file that is found is the only one");
    fs::remove_file(home.work().join(".gemini/.env")).unwrap();

    home.set("GEMINI_MODEL", "auto");
    assert_eq!(status(&home), "ok", "the environment goes before the file");
    home.set("GEMINI_MODEL", "");
    assert_eq!(status(&home), "ok", "even if it is empty");

    let mut home = Home::installed();
    home.write(&home.work().join(".env"), "GEMINI_MODEL=gemini-2.5-flash\n");
    home.set("GEMINI_CLI_TRUST_WORKSPACE", "false");
    assert_eq!(
        status(&home),
        "ok",
        "in a directory that is not trusted it does not count"
    );
}

/// The message of Linux's loader.
#[cfg(target_os = "linux")]
const NO_VULKAN: &str = "error while loading shared libraries: libvulkan.so.1: cannot open shared object file: No such \
                         file or directory";

#[cfg(target_os = "linux")]
#[test]
fn a_missing_vulkan_library_is_named_with_its_package() {
    let lit = String::from_utf8(executable()).unwrap();
    let check = format!("[ -n \"$LIT_STAND_IN_NO_VULKAN\" ] && {{ echo \"lit: {NO_VULKAN}\" >&2; exit 127; }}");
    let mut home = Home::publishing(lit.replacen('\n', &format!("\n{check}\n"), 1).as_bytes());
    home.install(&[]).ok();
    home.set("STAND_IN_NO_VULKAN", "1");
    let run = faulty(&home, &["runtime.loader"]);
    says(
        &run,
        "runtime.loader",
        &["libvulkan.so.1", "shared libraries"],
        "vulkan",
    );
    assert_eq!(
        run.check("model.present")["status"],
        "skip",
        "the runtime cannot be asked"
    );
    let error = &home.install(&[]).ends(7).result()["error"]["message"];
    assert_says(error.as_str().unwrap(), &["does not run", "libvulkan.so.1"]);
}

#[cfg(target_os = "linux")]
#[test]
fn doctor_names_the_vulkan_library_after_a_failed_installation() {
    let home = Home::publishing(format!("#!/bin/sh\necho \"$0: {NO_VULKAN}\" >&2\nexit 127\n").as_bytes());
    let run = home.install(&[]).ends(7);
    assert_says(run.result()["error"]["message"].as_str().unwrap(), &["libvulkan.so.1"]);
    assert_says(run.result()["error"]["hint"].as_str().unwrap(), &["gem-setup doctor"]);
    // The installation ended before settings and server, so these are missing too.
    let run = home.doctor();
    assert_eq!(
        run.faults(),
        ["runtime.loader", "settings.router", "client.launcher", "server.process"]
    );
}

#[test]
fn smoke_checks_the_answers_too() {
    let mut home = Home::new();
    let control = home.beside("control");
    home.set("STAND_IN_CONTROL", control.to_str().unwrap());
    home.install(&[]).ok();
    let run = home.gem(&["doctor", "--json", "--smoke"]).ok();
    assert_eq!(run.check("server.smoke")["status"], "ok");
    fs::write(&control, "contrary").unwrap();
    let check = home.gem(&["doctor", "--json", "--smoke"]).ok().check("server.smoke");
    assert_eq!(check["status"], "warn");
    let words = [
        "unlike the rubric, the model answers `pro` to “List the files here.”",
        "`flash` to “Why",
    ];
    assert_says(check["detail"].as_str().unwrap(), &words);
    assert_says(&home.gem(&["smoke", "--json"]).ok().stderr, &words);
    fs::write(&control, "garbage").unwrap();
    let check = home.gem(&["doctor", "--json", "--smoke"]).ok().check("server.smoke");
    assert_eq!(check["status"], "warn");
    let words = [
        "no usable answer to 2 of 2 routing probes",
        "the built-in classifier decided",
    ];
    assert_says(check["detail"].as_str().unwrap(), &words);
    let run = home.gem(&["smoke", "--json"]).ok();
    assert_says(&run.stderr, &words);
    assert_says(run.json()["probes"][0]["model_failure"].as_str().unwrap(), &[" "]);
    fs::write(&control, "errors").unwrap();
    let run = home.gem(&["doctor", "--json", "--smoke"]).ends(10);
    assert_eq!(run.faults(), ["server.smoke"]);
}

#[test]
fn an_unreadable_state_is_named_and_other_checks_run() {
    let home = Home::installed();
    let before = "not what install wrote";
    fs::write(home.layout().state_file(), before).unwrap();
    for fix in [[].as_slice(), &["--fix"]] {
        let run = home.gem(&["doctor", "--json"]).args(fix).ends(10);
        says(
            &run,
            "setup.records",
            &["state.json", "cannot use", "were skipped"],
            "move the file somewhere else",
        );
        assert_eq!(
            run.faults(),
            ["setup.records"],
            "nothing is judged by a record that is not known"
        );
        assert_eq!(run.check("settings.file")["status"], "ok");
    }
    assert_eq!(fs::read_to_string(home.layout().state_file()).unwrap(), before);
}

#[test]
fn a_model_that_gemini_cli_refuses_is_named() {
    let home = Home::new();
    let catalog = fs::read_to_string(home.catalog()).unwrap();
    fs::write(
        home.catalog(),
        catalog + "[[model]]\nname = \"gemma3-other\"\nterms = []\n",
    )
    .unwrap();
    let run = home.install(&["--no-start", "--model", "gemma3-other"]).ends(8);
    assert_says(&run.stderr, &["warning", "gemma3-other", MODEL]);
    let run = home.doctor();
    says(&run, "settings.router", &["gemma3-other", MODEL], "install --model");
    let run = home.install(&["--no-start", "--model", MODEL]).ok();
    assert!(!run.stderr.contains("warning"), "{run:#?}");
    assert_eq!(home.doctor().check("settings.router")["status"], "ok");
}

#[test]
fn a_workspace_that_gemini_cli_does_not_trust_is_named() {
    let home = Home::new();
    let run = home.install(&["--no-start", "--scope", "workspace"]).ends(8);
    assert_says(&run.stderr, &["warning", "does not trust"]);
    let run = home.doctor();
    says(&run, "settings.router", &["does not trust", "work"], "--scope user");
    assert_eq!(run.check("settings.shadowed")["status"], "skip");

    let rules = json!({home.work().to_str().unwrap(): "TRUST_FOLDER"});
    home.write(&home.path().join(".gemini/trustedFolders.json"), &rules.to_string());
    let run = home.doctor();
    assert_eq!(run.check("settings.router")["status"], "ok");
    assert_eq!(run.check("settings.shadowed")["status"], "ok");
}

#[test]
fn settings_that_outlived_the_installation_are_named() {
    let home = Home::installed();
    fs::remove_dir_all(home.layout().own()).unwrap();
    let run = home.doctor();
    let check = run.check("settings.leftover");
    assert_eq!(check["status"], "warn");
    assert_says(
        check["detail"].as_str().unwrap(),
        &[home.settings().to_str().unwrap(), "not installed here"],
    );
    assert_says(check["fix"].as_str().unwrap(), &["gem-setup uninstall"]);
    assert_says(
        &home.gem(&["doctor"]).ends(10).stdout,
        &[
            "settings.leftover",
            "gem-setup uninstall",
            "not installed: run `gem-setup install",
        ],
    );
    home.gem(&["uninstall"]).ok();
    let checks = home.doctor().json()["checks"].clone();
    let named = checks
        .as_array()
        .unwrap()
        .iter()
        .any(|check| check["id"] == "settings.leftover");
    assert!(!named, "{checks:#}");
}

#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[cfg(unix)]
#[test]
fn a_variable_with_a_missing_file_is_named() {
    let home = Home::new();
    let system = |path: &str| home.doctor_command().env("GEMINI_CLI_SYSTEM_SETTINGS_PATH", path).run();
    for path in ["/etc", "/dev/null"] {
        let fix = system(path).check("settings.file")["fix"].to_string();
        assert_says(&fix, &["correct the variable", path]);
    }
}

#[test]
fn a_workspace_is_repaired_from_another_directory() {
    let home = Home::new();
    let trusting = |gem: Gem| gem.env("GEMINI_CLI_TRUST_WORKSPACE", "true");
    trusting(home.install(&["--no-start", "--scope", "workspace"])).ok();
    let settings = home.work().join(".gemini/settings.json");
    let other = home.beside("other");
    fs::create_dir(&other).unwrap();
    let doctor = |args: &[&str]| trusting(home.gem(&["doctor", "--json"]).args(args).within(&other)).run();
    let router = doctor(&[]).check("settings.router");
    assert_eq!(router["status"], "ok", "{router}");
    assert_says(router["detail"].as_str().unwrap(), &[home.work().to_str().unwrap()]);

    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, "{}\n").unwrap();
    assert_says(
        doctor(&[]).check("settings.router")["detail"].as_str().unwrap(),
        &[settings.to_str().unwrap()],
    );
    doctor(&["--fix"]);
    assert_eq!(fs::read_to_string(&settings).unwrap(), text);
    assert!(!other.join(".gemini").exists());

    fs::rename(home.work(), home.beside("moved")).unwrap();
    let gone = doctor(&["--fix"]);
    assert_says(
        &gone.check("settings.file")["fix"].to_string(),
        &["install --scope user"],
    );
    assert!(!home.work().exists() && !other.join(".gemini").exists());
    fs::rename(home.beside("moved"), home.work()).unwrap();
}
