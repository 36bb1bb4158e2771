use serde_json::{Value, json};

use super::*;

fn enabled(value: &str) -> String {
    format!(r#"{{ "experimental": {{ "gemmaModelRouter": {{ "enabled": {value} }} }} }}"#)
}

fn scopes(settings: &[Setting]) -> Vec<Scope> {
    settings.iter().map(|setting| setting.scope).collect()
}

#[test]
fn without_files_the_defaults_are_in_effect() {
    let router = Machine::new().router();
    assert_eq!((router.enabled.value, router.enabled.origin), (false, Origin::Default));
    assert_eq!(router.enabled.path, None);
    assert!(router.auto_start_server.value);
    assert_eq!(router.binary_path.value, "");
    assert_eq!(router.classifier_host.value, "http://localhost:9379");
    assert_eq!(router.classifier_model.value, "gemma3-1b-gpu-custom");
    assert_eq!(router.model_name.value, None);
    assert_eq!(router.malformed, []);
}

#[test]
fn the_stronger_scope_wins_and_the_weaker_ones_are_named() {
    let machine = Machine::new().trusting();
    for (n, scope) in Scope::ALL.into_iter().enumerate() {
        machine.put(scope, &enabled(if n % 2 == 0 { "true" } else { "false" }));
        let enabled = machine.router().enabled;
        assert_eq!(enabled.origin, Origin::Scope(scope));
        assert_eq!(enabled.value, n % 2 == 0);
        assert_eq!(enabled.path, Some(machine.file(scope)));
        assert_eq!(scopes(&enabled.shadowed), Scope::ALL[..n]);
    }
}

#[test]
fn keys_are_merged_one_by_one() {
    let machine = Machine::new().trusting();
    machine.put(
        Scope::User,
        r#"{"experimental":{"gemmaModelRouter":{"classifier":{"host":"http://u:1","model":"u"}}}}"#,
    );
    machine.put(
        Scope::Workspace,
        r#"{"experimental":{"gemmaModelRouter":{"classifier":{"host":"http://w:2"}}}}"#,
    );
    let router = machine.router();
    assert_eq!(router.classifier_host.value, "http://w:2");
    assert_eq!(router.classifier_host.shadowed[0].value, json!("http://u:1"));
    assert_eq!(
        (router.classifier_model.value.as_str(), router.classifier_model.origin),
        ("u", Origin::Scope(Scope::User))
    );
}

#[test]
fn an_untrusted_workspace_is_read_but_does_not_count() {
    let machine = Machine::with(&enabled("true"));
    machine.put(Scope::Workspace, &enabled("false"));
    let enabled = machine.router().enabled;
    assert!(enabled.value);
    assert_eq!(scopes(&enabled.ignored), [Scope::Workspace]);
    assert!(enabled.shadowed.is_empty());
}

#[test]
fn folder_trust_is_switched_off_by_every_scope_but_the_workspace() {
    let off = r#"{ "security": { "folderTrust": { "enabled": false } } }"#;
    for (scope, trusted) in [
        (Scope::SystemDefaults, true),
        (Scope::User, true),
        (Scope::System, true),
        (Scope::Workspace, false),
    ] {
        let machine = Machine::new();
        machine.put(scope, off);
        assert_eq!(machine.load().trust.is_trusted(), trusted, "{scope}");
    }
}

#[test]
fn only_the_user_chooses_whether_the_server_starts() {
    let machine = Machine::new().trusting();
    let off = r#"{"experimental":{"gemmaModelRouter":{"autoStartServer":false}}}"#;
    machine.put(Scope::Workspace, off);
    let started = machine.router().auto_start_server;
    assert_eq!(
        (started.value, scopes(&started.ignored)),
        (true, vec![Scope::Workspace])
    );
    machine.put(Scope::User, off);
    assert!(!machine.router().auto_start_server.value);
}

#[test]
fn what_is_executed_is_chosen_by_the_user_alone() {
    let machine = Machine::new().trusting();
    let binary = r#"{"experimental":{"gemmaModelRouter":{"binaryPath":"/evil"}}}"#;
    for scope in [Scope::SystemDefaults, Scope::Workspace, Scope::System] {
        machine.put(scope, binary);
    }
    let path = machine.router().binary_path;
    assert_eq!((path.value.as_str(), path.origin), ("", Origin::Default));
    assert_eq!(
        scopes(&path.ignored),
        [Scope::SystemDefaults, Scope::Workspace, Scope::System]
    );

    machine.put(
        Scope::User,
        r#"{"experimental":{"gemmaModelRouter":{"binaryPath":"/mine"}}}"#,
    );
    assert_eq!(machine.router().binary_path.value, "/mine");
}

#[test]
fn variables_in_values_are_replaced() {
    let machine = Machine::new().variable("ROUTER", "10.0.0.1");
    machine.put(
        Scope::User,
        r#"{"experimental":{"gemmaModelRouter":{"classifier":{"host":"http://${ROUTER}:1","model":"$NONE"}}}}"#,
    );
    let router = machine.router();
    assert_eq!(router.classifier_host.value, "http://10.0.0.1:1");
    assert_eq!(router.classifier_model.value, "$NONE");
}

#[test]
fn a_value_of_the_wrong_kind_is_reported_and_hides_the_weaker_ones() {
    let machine = Machine::with(&enabled("true"));
    machine.put(Scope::System, &enabled("\"yes\""));
    let router = machine.router();
    assert_eq!((router.enabled.value, router.enabled.origin), (false, Origin::Default));
    assert_eq!(scopes(&router.enabled.shadowed), [Scope::User, Scope::System]);
    let malformed = &router.malformed[0];
    assert_eq!(malformed.key, "experimental.gemmaModelRouter.enabled");
    assert_eq!(
        (malformed.scope, malformed.expected, malformed.found),
        (Scope::System, "a boolean", "a string")
    );
    assert_eq!(malformed.path, machine.file(Scope::System));
}

#[test]
fn something_else_in_place_of_an_object_is_reported_once() {
    let machine = Machine::with(r#"{ "experimental": { "gemmaModelRouter": true }, "model": { "name": null } }"#);
    let malformed = machine.router().malformed;
    let seen: Vec<_> = malformed
        .iter()
        .map(|m| (m.key.as_str(), m.expected, m.found))
        .collect();
    assert_eq!(
        seen,
        [
            ("experimental.gemmaModelRouter", "an object", "a boolean"),
            ("model.name", "a string", "null")
        ]
    );
}

#[test]
fn one_broken_file_does_not_hide_the_others() {
    let machine = Machine::with(&enabled("true"));
    machine.put(Scope::System, "{\n  \"a\": 1\n  \"b\": 2\n}");
    let settings = machine.load();
    assert!(settings.router().enabled.value);
    let errors: Vec<_> = settings.errors().collect();
    assert!(
        matches!(errors[..], [Error::Parse { path, line: 2 | 3, .. }] if *path == machine.file(Scope::System)),
        "{errors:?}"
    );
}

#[test]
fn each_way_to_be_broken_has_its_place_and_reason() {
    for (text, expected) in [
        ("{\n  \"a\": tru\n}", "line 2, column 8"),
        ("", "the file contains no value"),
        ("// nothing\n", "the file contains no value"),
        ("\u{feff}{ \"a\" 1 }", "line 1"),
        ("{} {}", "line 1, column 4"),
        ("{ a: 1 }", "line 1, column 3"),
        ("{ \"a\": {}\n\n", "line 1, column 10"),
        ("{ \"a\": [\n1", "line 2"),
        ("\n [1]", "the file is an array at line 2, column 2"),
    ] {
        let machine = Machine::with(text);
        let settings = machine.load();
        let error = settings.errors().next().unwrap();
        assert!(error.to_string().contains(expected), "{text:?}: {error}");
        assert!(error.to_string().contains("settings.json"));
        assert_eq!(
            crate::error::Failure::from(machine.apply(Destination::User).unwrap_err())
                .kind
                .exit_status(),
            8
        );
        assert_eq!(machine.text(Scope::User), text);
    }
}

#[test]
fn bytes_that_are_no_text_are_located() {
    let machine = Machine::with("");
    fs::write(machine.file(Scope::User), b"{\n \"a\": \"\xff\" }").unwrap();
    let settings = machine.load();
    assert!(matches!(
        settings.errors().next(),
        Some(Error::Parse { line: 2, column: 8, .. })
    ));
}

#[test]
fn a_directory_in_place_of_the_file_is_named() {
    let machine = Machine::new();
    fs::create_dir_all(machine.file(Scope::User)).unwrap();
    assert!(
        matches!(machine.load().errors().next(), Some(Error::Read { path, .. }) if *path == machine.file(Scope::User))
    );
}

#[test]
fn deep_nesting_is_an_error_and_no_crash() {
    let machine = Machine::with(&format!("{{\"a\": {}", "[".repeat(100_000)));
    assert!(matches!(machine.load().errors().next(), Some(Error::Parse { .. })));
}

#[test]
fn a_file_that_gemini_cli_would_refuse_is_read_and_marked() {
    let refusal = |text: &str| {
        let settings = Machine::with(text).load();
        let user = settings
            .scopes
            .into_iter()
            .find(|file| file.scope == Scope::User)
            .unwrap();
        match user.content {
            Content::Parsed(document) => document.refused,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refusal("{ \"a\": 1 } // fine"), None);
    let mark = refusal("\u{feff}{}").unwrap();
    assert_eq!(mark.to_string(), "it starts with a byte order mark (line 1, column 1)");
    let comma = refusal("{ \"a\": 1, }").unwrap();
    assert_eq!(comma.to_string(), "a trailing comma (line 1, column 9)");
    let tab = refusal("{ \"a\": \"x\ty\" }").unwrap();
    assert_eq!((comma.is_removable, tab.is_removable), (true, false));
}

#[test]
fn the_report_names_values_origins_and_states() {
    let machine = Machine::with(&enabled("true"));
    machine.put(Scope::System, "[");
    let router = serde_json::to_value(machine.router()).unwrap();
    assert_eq!(router["enabled"]["value"], json!(true));
    assert_eq!(router["enabled"]["origin"], json!("user"));
    assert_eq!(router["classifier.host"]["origin"], json!("default"));

    let settings = serde_json::to_value(machine.load()).unwrap();
    let states: Vec<&Value> = (0..4).map(|n| &settings["scopes"][n]["state"]).collect();
    assert_eq!(states, ["absent", "parsed", "absent", "broken"]);
    assert!(settings["scopes"][3]["error"].as_str().unwrap().contains("line 1"));
}
