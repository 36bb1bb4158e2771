//! Options come from the command line, the environment and the configuration file, in this order.

use std::fs;

use super::harness::{Gem, Home, assert_says};

#[test]
fn the_local_models_name_does_not_override_routing() {
    let home = Home::new();
    let route = |gem: Gem| {
        gem.args(["route", "--json", "--classifier", "builtin", "rename x to y"])
            .ok()
            .json()
    };
    let usual = route(home.gem(&[]));
    assert_ne!(usual["source"], "override");
    home.write(&home.layout().config_file(), "model = \"gemma3-1b-gpu-custom\"\n");
    for gem in [
        home.gem(&[]),
        home.gem(&[]).env("GEM_SETUP_MODEL", "gemma3-1b-gpu-custom"),
    ] {
        let decision = route(gem);
        assert_eq!(
            (&decision["model"], &decision["source"]),
            (&usual["model"], &usual["source"])
        );
    }
    let asked = home.gem(&["route", "--model", "gemini-2.5-pro", "x"]).ok();
    assert_eq!(asked.stdout, "gemini-2.5-pro\n");
}

#[test]
fn a_fault_in_the_configuration_names_its_file_and_its_key() {
    let home = Home::new();
    let file = home.layout().config_file();
    for (text, words) in [
        ("port = []\n", ["`port`", "one value"]),
        ("port = [1, 2]\n", ["`port`", "one value"]),
        ("port = \"many\"\n", ["many", "`port`"]),
        ("verbose = \"lots\"\n", ["lots", "`verbose`"]),
    ] {
        home.write(&file, text);
        let run = home.gem(&["install", "--dry-run"]).ends(2);
        assert_says(&run.stderr, &words);
        assert_says(&run.stderr, &[&home.shown(&file)]);
    }
    fs::write(&file, b"port = \xff\n").unwrap();
    let run = home.gem(&["install", "--dry-run"]).ends(2);
    assert!(!run.stderr.contains("--config"), "{run:#?}");
    assert_says(&run.stderr, &[&home.shown(&file)]);
}

#[cfg(unix)]
#[test]
fn values_that_are_not_utf8_are_refused_by_name() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let home = Home::new();
    let odd = OsStr::from_bytes(b"h\xff");
    for name in ["GEMINI_CLI_HOME", "GEM_SETUP_MODEL", "GEM_SETUP_HOME"] {
        let mut command = home.gem(&["version"]).into_command();
        let output = command.env(name, odd).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert_says(&String::from_utf8_lossy(&output.stderr), &[name, "UTF-8"]);
    }
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_gem-setup"));
    let command = command
        .args(["install", "--runtime", "builtin", "--home"])
        .arg(home.path().join(odd));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_says(&String::from_utf8_lossy(&output.stderr), &["home", "UTF-8", "--home"]);
    assert!(!home.path().join(odd).exists());
}

/// The port of the server in the plan.
#[track_caller]
fn planned_port(gem: Gem) -> String {
    let run = gem.args(["install", "--dry-run", "--json"]).ok();
    let events = run.events();
    let step = events.iter().find(|event| event["id"] == "server").unwrap();
    let detail = step["detail"].as_str().unwrap();
    detail
        .split("port ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .to_owned()
}

#[test]
fn an_option_is_taken_from_flag_environment_file_and_default_in_this_order() {
    let home = Home::new();
    assert_eq!(planned_port(home.gem(&[])), "9379");
    home.write(&home.layout().config_file(), "port = 1111\n");
    assert_eq!(planned_port(home.gem(&[])), "1111");
    assert_eq!(planned_port(home.gem(&[]).env("GEM_SETUP_PORT", "2222")), "2222");
    let run = home
        .gem(&["install", "--dry-run", "--json", "--port", "3333"])
        .env("GEM_SETUP_PORT", "2222")
        .ok();
    assert_says(&run.stdout, &["on port 3333"]);

    let other = home.beside("other.toml");
    fs::write(&other, "port = 4444\n").unwrap();
    assert_eq!(planned_port(home.gem(&["--config", other.to_str().unwrap()])), "4444");
    assert_eq!(planned_port(home.gem(&[]).env("GEM_SETUP_CONFIG", &other)), "4444");
}

#[test]
fn switches_and_lists_come_from_environment_and_file_too() {
    let home = Home::new();
    assert!(
        home.gem(&["version"])
            .env("GEM_SETUP_JSON", "1")
            .ok()
            .json()
            .is_object()
    );
    home.write(
        &home.layout().config_file(),
        "json = true\nno_model = true\nmirror = [\"https://a.example\", \"https://b.example\"]\n",
    );
    let run = home.gem(&["install", "--dry-run"]).ok();
    assert_eq!(run.step("model"), "skipped");
    assert_says(&run.stdout, &["https://a.example/"]);
}

#[test]
fn the_home_comes_from_the_environment_too() {
    let home = Home::new();
    for variable in ["GEM_SETUP_HOME", "GEMINI_CLI_HOME"] {
        let other = home.beside(variable);
        fs::create_dir_all(other.join(".gemini")).unwrap();
        fs::write(other.join(".gemini/settings.json"), "{ oops").unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_gem-setup"));
        command
            .args(["settings", "show"])
            .env(variable, &other)
            .current_dir(home.work());
        let run = Gem::new(command).ends(8);
        assert_says(&run.stderr, &[other.to_str().unwrap()]);
    }
}

#[test]
fn an_invalid_configuration_names_file_and_key() {
    let home = Home::new();
    let file = home.layout().config_file();
    for (text, word) in [
        ("prot = 9379\n", "prot"),
        ("# ports\n\nprot = 9379\n", "line 3: unknown key `prot`"),
        ("model = \"m\"\nport = [1, 2]\n", "line 2: `port` takes one value"),
        ("port = \"many\"\n", "port"),
        ("port = { a = 1 }\n", "port"),
        ("port = \n", "line 1"),
        ("home = \"/tmp\"\n", "line 1: `home` cannot be set here"),
    ] {
        home.write(&file, text);
        let run = home.gem(&["install", "--dry-run"]).ends(2);
        assert_says(&run.stderr, &[word]);
        if word != "port" || text.contains('{') {
            assert_says(&run.stderr, &[&home.shown(&file)]);
        }
    }
    fs::remove_file(&file).unwrap();
    let run = home
        .gem(&["install", "--dry-run"])
        .env("GEM_SETUP_PORT", "many")
        .ends(2);
    assert_says(&run.stderr, &["GEM_SETUP_PORT", "many"]);
}

/// A value that clap refuses on the command line must be refused from every layer.
#[test]
fn conflicts_and_requirements_hold_in_every_layer() {
    let home = Home::new();
    let run = home
        .install(&["--no-start"])
        .env("GEM_SETUP_TARGET", "windows-x86_64")
        .ends(2);
    let error = &run.result()["error"];
    assert_says(error["message"].as_str().unwrap(), &["windows-x86_64"]);
    assert_says(error["hint"].as_str().unwrap(), &["--dry-run"]);
    home.assert_untouched();

    fs::write(home.work().join("rows.jsonl"), "").unwrap();
    fs::write(home.work().join("plan.md"), "").unwrap();
    let run = home
        .gem(&["route", "text"])
        .env("GEM_SETUP_BATCH", "rows.jsonl")
        .ends(2);
    assert_says(&run.stderr, &["--batch", "TEXT", "GEM_SETUP_BATCH"]);
    home.gem(&["route", "text", "--plan"])
        .env("GEM_SETUP_APPROVED_PLAN", "plan.md")
        .ends(2);
    home.gem(&["route", "text", "--approved-plan", "plan.md"])
        .env("GEM_SETUP_PLAN", "1")
        .ends(2);
    home.gem(&["route", "text", "--approved-plan", "plan.md"])
        .env("GEM_SETUP_PLAN", "0")
        .ok();

    home.write(&home.layout().config_file(), "target = \"windows-x86_64\"\n");
    home.install(&["--no-start"]).ends(2);
    assert!(!home.lit().exists());
}

#[test]
fn an_option_overrides_a_conflicting_one_of_the_file() {
    let home = Home::new();
    home.write(
        &home.layout().config_file(),
        "catalog_url = \"http://127.0.0.1:9/c.toml\"\nself = true\n",
    );
    let catalog = home.catalog();
    let catalog = catalog.to_str().unwrap();
    home.gem(&["upgrade", "--check", "--catalog", catalog]).ok();
    home.gem(&["upgrade", "--check"]).env("GEM_SETUP_CATALOG", catalog).ok();
    let run = home
        .gem(&[
            "upgrade",
            "--check",
            "--catalog",
            catalog,
            "--catalog-url",
            "http://127.0.0.1:9/",
        ])
        .ends(2);
    assert_says(&run.stderr, &["--catalog", "--catalog-url"]);
}

/// The commands that only read or stop.
const WITHOUT_CONFIGURATION: [&[&str]; 10] = [
    &["version"],
    &["completions", "bash"],
    &["status"],
    &["logs"],
    &["list"],
    &["stop"],
    &["settings", "show"],
    &["settings", "remove"],
    &["service", "status"],
    &["uninstall"],
];

#[test]
fn reading_and_stopping_need_no_configuration() {
    let home = Home::new();
    home.gem(&["install", "--runtime", "builtin", "--no-start"]).ok();
    let file = home.layout().config_file();
    for text in ["no such option\n", "prot = 1\n", "verbose = \"lots\"\n", "port = {}\n"] {
        for args in WITHOUT_CONFIGURATION {
            let before = home.gem(args).run();
            home.write(&file, text);
            let run = home.gem(args).run();
            assert_eq!(run.status, before.status, "{args:?}: {run:#?}");
            assert_says(&run.stderr, &["warning", &home.shown(&file)]);
            fs::remove_file(&file).unwrap();
        }
        home.write(&file, text);
        home.gem(&["start"]).ends(2);
        assert_eq!(home.gem(&["smoke"]).run().status, 7);
        let check = home.doctor().check("setup.records");
        assert_eq!(check["status"], "fail");
        assert_says(check["detail"].as_str().unwrap(), &[file.to_str().unwrap()]);
        assert_says(check["fix"].as_str().unwrap(), &["correct", file.to_str().unwrap()]);
        assert_eq!(home.gem(&["doctor"]).ends(10).stderr, "", "it is a finding, said once");
        fs::remove_file(&file).unwrap();
    }
}

#[test]
fn a_directory_in_place_of_the_configuration_is_named() {
    let home = Home::new();
    let file = home.layout().config_file();
    fs::create_dir_all(&file).unwrap();
    let run = home.gem(&["install", "--runtime", "builtin"]).ends(2);
    assert_says(&run.stderr, &[&format!("move `{}` somewhere else", home.shown(&file))]);
    let fix = home.doctor().check("setup.records")["fix"].clone();
    assert_eq!(fix, format!("move `{}` somewhere else", file.display()));
}

#[test]
fn a_name_like_an_options_is_a_suggestion() {
    let home = Home::new();
    home.write(&home.layout().config_file(), "upstraem = \"http://127.0.0.1:9\"\n");
    assert_says(&home.gem(&["start"]).ends(2).stderr, &["did you mean `upstream`?"]);
    fs::remove_file(home.layout().config_file()).unwrap();
    let run = home.gem(&["version"]).env("GEM_SETUP_POORT", "1").ok();
    assert_says(&run.stderr, &["GEM_SETUP_POORT", "did you mean `GEM_SETUP_PORT`?"]);
    let run = home.gem(&["version"]).env("GEM_SETUP_PORT", "1").ok();
    assert_eq!(run.stderr, "");
    let run = home.gem(&["version", "--quiet"]).env("GEM_SETUP_POORT", "1").ok();
    assert_eq!(run.stderr, "");
}

#[test]
fn a_path_in_the_configuration_is_relative_to_its_directory() {
    let home = Home::new();
    home.write(&home.layout().own().join("models.toml"), "no such table");
    home.write(&home.layout().config_file(), "models = \"models.toml\"\n");
    let run = home.gem(&["route", "--classifier", "builtin", "x"]).ends(2);
    let path = home.layout().own().join("models.toml");
    assert_says(&run.stderr, &[&home.shown(&path)]);
}

#[test]
fn a_file_that_an_option_names_must_exist() {
    let home = Home::new();
    for args in [
        ["install", "--dry-run", "--ca-cert", "/nope"].as_slice(),
        &[
            "install",
            "--dry-run",
            "--runtime",
            "litert-lm",
            "--model-file",
            "/nope",
        ],
        &["install", "--dry-run", "--runtime", "builtin", "--model-file", "/nope"],
        &["install", "--dry-run", "--catalog", "/nope"],
        &["doctor", "--ca-cert", "/nope"],
        &["pull", "some-model", "--model-file", "/nope"],
        &["bundle", "create", "new", "--ca-cert", "/nope"],
        &["serve", "--runtime", "builtin", "--ca-cert", "/nope"],
        &["start", "--models", "/nope"],
        &["route", "x", "--history", "/nope"],
        &["route", "--batch", "/nope"],
    ] {
        let run = home.gem(args).ends(2);
        assert_says(&run.stderr, &["/nope", args[args.len() - 2]]);
    }
    let run = home
        .gem(&["install", "--dry-run"])
        .env("GEM_SETUP_CA_CERT", "/nope")
        .ends(2);
    assert_says(&run.stderr, &["/nope", "GEM_SETUP_CA_CERT"]);
    home.assert_untouched();
}

#[test]
fn certificates_are_read_before_anything_is_changed() {
    let home = Home::new();
    let file = home.beside("garbage.pem");
    for text in [
        "",
        "garbage",
        "-----BEGIN CERTIFICATE-----\nZ2FyYmFnZQ==\n-----END CERTIFICATE-----\n",
    ] {
        fs::write(&file, text).unwrap();
        for args in [
            ["install", "--dry-run"].as_slice(),
            &["install"],
            &["serve"],
            &["upgrade", "--check"],
        ] {
            let run = home.gem(args).args(["--ca-cert", file.to_str().unwrap()]).ends(2);
            assert_says(&run.stderr, &["--ca-cert", file.to_str().unwrap()]);
        }
    }
    home.assert_untouched();
}

#[test]
fn doctor_reports_wrong_values_of_other_commands() {
    let home = Home::new();
    home.gem(&["install", "--runtime", "builtin", "--no-start"]).ok();
    let file = home.layout().config_file();
    for (text, key) in [
        ("threshold = 2\n", "threshold"),
        ("token_file = \"/nope\"\n", "token_file"),
        ("account = \"pro\"\n", "account"),
        ("port = \"abc\"\n", "port"),
        ("sign = \"/nope\"\n", "sign"),
        ("program = \"linux-x86_64=/nope\"\n", "program"),
        ("sign = \"/nope\"\nthreshold = 2\n", "sign"),
    ] {
        home.write(&file, text);
        let check = home.doctor().check("setup.records");
        assert_eq!(check["status"], "fail", "{text}");
        assert_says(check["detail"].as_str().unwrap(), &[key, file.to_str().unwrap()]);
    }
}

#[cfg(unix)]
#[test]
fn an_endless_file_is_refused() {
    let home = Home::new();
    for args in [
        ["route", "x", "--history", "/dev/zero"].as_slice(),
        &["route", "--batch", "/dev/zero"],
        &["route", "x", "--config", "/dev/zero"],
        &["install", "--dry-run", "--catalog", "/dev/zero"],
    ] {
        let run = home.gem(args).ends(2);
        assert_says(&run.stderr, &["/dev/zero"]);
    }
    home.gem(&["stop", "--config", "/dev/zero"]).ok();
}

#[test]
fn a_wrong_variable_does_not_block_stop() {
    let home = Home::new();
    for args in [["stop"].as_slice(), &["versions"], &["cleanup", "--dry-run"]] {
        home.gem(args).env("GEM_SETUP_CA_CERT", "/nope").ok();
        let run = home.gem(args).env("GEM_SETUP_JSON", "maybe").ok();
        assert_says(&run.stderr, &["warning", "GEM_SETUP_JSON"]);
    }
}

#[test]
fn an_option_that_does_not_apply_is_refused_and_not_recorded() {
    let home = Home::new();
    let file = home.beside("model.litertlm");
    fs::write(&file, "model").unwrap();
    let file = file.to_str().unwrap();
    for (command, runtime) in [
        (["install", "--accept-terms"].as_slice(), "builtin"),
        (&["install", "--accept-terms"], "lit"),
        (&["pull", "some-model"], "lit"),
    ] {
        let run = home
            .gem(command)
            .args(["--runtime", runtime, "--model-file", file])
            .ends(2);
        assert_says(&run.stderr, &[runtime, file, "--runtime litert-lm"]);
    }
    let run = home.gem(&["install", "--runtime", "builtin", "--direct"]).ends(2);
    assert_says(&run.stderr, &["builtin", "--direct"]);
    home.assert_untouched();
}

#[test]
fn wrong_values_are_explained_in_plain_words() {
    let home = Home::new();
    for (args, says) in [
        (["install", "--port", "many"], "not a number"),
        (["install", "--port", "70000"], "not between 1 and 65535"),
        (["install", "--mirror", "mirror.example"], "add `https://`"),
        (["serve", "--upstream", "api.example"], "add `https://`"),
        (["serve", "--upstream", "https://zürich.example"], "xn--"),
        (["install", "--ca-cert", "/"], "it is a directory"),
    ] {
        assert_says(&home.gem(&args).ends(2).stderr, &[says, args[2]]);
    }
}

#[test]
fn a_switch_that_is_off_wins_over_the_record() {
    let home = Home::new();
    let install = |words: &[&str]| {
        let first = ["install", "--runtime", "builtin", "--no-start", "--no-smoke"];
        home.gem(&first).args(words)
    };
    let recorded = |name: &str| {
        let text = fs::read_to_string(home.layout().state_file()).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()[name].clone()
    };
    let on = [
        "--mirror",
        "https://a.example",
        "--mirror-only",
        "--port",
        &home.port.to_string(),
    ];
    install(&on).ok();
    install(&[]).ok();
    assert_eq!(recorded("mirror_only"), true);
    for gem in [
        install(&[]).env("GEM_SETUP_MIRROR_ONLY", "off"),
        install(&["--mirror-only=false"]).env("GEM_SETUP_MIRROR_ONLY", "on"),
    ] {
        install(&["--mirror-only"]).ok();
        gem.ok();
        assert_eq!(recorded("mirror_only"), false);
    }
    install(&["--mirror-only"]).ok();
    home.write(&home.layout().config_file(), "mirror_only = false\n");
    install(&[]).ok();
    assert_eq!(recorded("mirror_only"), false);

    let state = fs::read_to_string(home.layout().state_file()).unwrap();
    let direct = state.replace("\"direct\": false", "\"direct\": true");
    fs::write(home.layout().state_file(), direct).unwrap();
    // A server of this runtime cannot do without its gateway.
    home.gem(&["start"]).ends(2);
    home.gem(&["start"]).env("GEM_SETUP_DIRECT", "off").ok();
    home.gem(&["restart"]).ok();
    home.gem(&["stop"]).ok();
}
