use serde_json::json;

use super::*;

const NEW_USER_FILE: &str = r#"{
  "experimental": {
    "gemmaModelRouter": {
      "enabled": true,
      "classifier": {
        "host": "http://localhost:9379",
        "model": "gemma3-1b-gpu-custom"
      },
      "autoStartServer": true,
      "binaryPath": "/opt/gem-setup"
    }
  }
}
"#;

#[test]
fn the_machines_file_gets_the_routing_alone() {
    let machine = Machine::new();
    let applied = machine.apply(Destination::System).unwrap();
    let [file] = &applied.files[..] else {
        panic!("{applied:?}")
    };
    assert_eq!(file.scope, Scope::System);
    let keys: Vec<Key> = file.changes.iter().map(|change| change.key).collect();
    assert_eq!(keys, [Key::Enabled, Key::ClassifierHost, Key::ClassifierModel]);
    assert_eq!(machine.clear(Destination::System), Outcome::Edited);
    assert!(
        machine
            .apply(Destination::User)
            .unwrap()
            .files
            .iter()
            .all(|file| file.scope == Scope::User)
    );
}

#[test]
fn a_file_that_was_written_and_then_failed_is_rolled_back_too() {
    // A bare name is without a directory that could be opened to the users, so this fails after the file was written.
    let name = format!("settings-of-{}.json", std::process::id());
    let machine = Machine::new();
    let variables = [("GEMINI_CLI_SYSTEM_SETTINGS_PATH".to_owned(), name.clone())];
    let environment = Environment::new(variables, "", machine.home());
    let places = Places::new(Os::Linux, &environment, &machine.home());
    let applied = apply(
        &places,
        &environment,
        Destination::System,
        &values(9379),
        &machine.backups(),
        now(),
    );
    let is_left = Path::new(&name).exists();
    let _ = fs::remove_file(&name);
    if cfg!(unix) {
        assert!(matches!(applied, Err(Error::Write { .. })), "{applied:?}");
        assert!(!is_left);
    }
}

#[test]
fn a_new_file_is_plain_json_with_two_spaces() {
    let machine = Machine::new();
    let applied = machine.apply(Destination::User).unwrap();
    assert_eq!(machine.text(Scope::User), NEW_USER_FILE);
    assert_eq!(applied.files.len(), 1);
    assert_eq!(applied.files[0].backup, None);
    assert!(machine.load().errors().next().is_none());
}

#[test]
fn the_workspace_never_chooses_what_is_executed() {
    let machine = Machine::new();
    machine.apply(Destination::Workspace).unwrap();
    let workspace = machine.text(Scope::Workspace);
    assert!(workspace.contains("\"enabled\": true") && workspace.contains("\"host\""));
    assert!(!workspace.contains("binaryPath") && !workspace.contains("autoStartServer"));
    let user = machine.text(Scope::User);
    assert!(user.contains("\"binaryPath\": \"/opt/gem-setup\"") && user.contains("\"autoStartServer\": true"));
    assert!(!user.contains("\"enabled\""));
}

#[test]
fn in_the_home_directory_the_workspace_is_the_user() {
    let machine = Machine::new();
    let environment = Environment::new([], machine.home(), machine.home());
    let places = Places::new(Os::Linux, &environment, &machine.home());
    apply(
        &places,
        &environment,
        Destination::Workspace,
        &values(9379),
        &machine.backups(),
        now(),
    )
    .unwrap();
    assert_eq!(machine.text(Scope::User), NEW_USER_FILE);
}

#[test]
fn what_is_in_place_is_not_written_again() {
    let machine = Machine::new();
    machine.apply(Destination::User).unwrap();
    let before = fs::metadata(machine.file(Scope::User)).unwrap().modified().unwrap();
    assert!(machine.plan(Destination::User).unwrap().is_empty());
    assert!(machine.apply(Destination::User).unwrap().is_empty());
    assert_eq!(
        fs::metadata(machine.file(Scope::User)).unwrap().modified().unwrap(),
        before
    );
    assert!(machine.backup_texts().is_empty());
}

#[test]
fn a_value_that_a_variable_gives_is_in_place() {
    let machine = Machine::with(&NEW_USER_FILE.replace("localhost", "${ROUTER}")).variable("ROUTER", "localhost");
    assert!(machine.apply(Destination::User).unwrap().is_empty());
}

#[test]
fn a_plan_tells_what_would_change_and_changes_nothing() {
    let machine = Machine::with(&NEW_USER_FILE.replace("9379", "1"));
    let before = machine.text(Scope::User);
    let plan = machine.plan(Destination::User).unwrap();
    assert_eq!(machine.text(Scope::User), before);
    assert_eq!(
        serde_json::to_value(&plan.files[0].changes).unwrap(),
        json!([{
            "key": "experimental.gemmaModelRouter.classifier.host",
            "from": "\"http://localhost:1\"",
            "to": "http://localhost:9379",
        }])
    );
    assert!(!plan.files[0].creates_file);
}

#[test]
fn only_the_value_that_differs_is_typed_anew() {
    let text = "{\r\n\t// mine\r\n\t\"experimental\" : { /* a */ \"gemmaModelRouter\":{\"enabled\" : false /* b */ ,\r\n\
                \t\t\"classifier\": {\"host\":\"http:\\/\\/localhost:9379\", \"model\":\"gemma3-1b-gpu-custom\",}, // c\r\n\
                \t\t\"autoStartServer\":true,\"binaryPath\":\"\\u002fopt/gem-setup\" } }, \"caf\\u00e9\": [1,2 , 3]}";
    let machine = Machine::with(text);
    machine.apply(Destination::User).unwrap();
    assert_eq!(
        machine.text(Scope::User),
        text.replace("false", "true").replace(",}", "}")
    );
}

#[test]
fn the_files_own_style_is_followed() {
    for (before, after) in [
        (
            "{\n\t\"a\": 1\n}",
            "{\n\t\"a\": 1,\n\t\"experimental\": {\n\t\t\"gemmaModelRouter\": {\n\t\t\t\"enabled\": true,\n",
        ),
        (
            "{\r\n    \"a\": 1,\r\n}\r\n",
            "{\r\n    \"a\": 1,\r\n    \"experimental\": {\r\n        \"gemmaModelRouter\": {\r\n            \"enabled\": true,\r\n",
        ),
    ] {
        let machine = Machine::with(before);
        machine.apply(Destination::User).unwrap();
        let text = machine.text(Scope::User);
        assert!(text.starts_with(after), "{text}");
        assert_eq!(text.ends_with('\n'), before.ends_with('\n'));
        assert_eq!(text.contains("\r\n"), before.contains("\r\n"));
        assert_eq!(
            text.matches('\n').count(),
            text.matches(if before.contains('\r') { "\r\n" } else { "\n" }).count()
        );
    }
}

#[test]
fn marks_that_gemini_cli_refuses_are_removed_and_the_backup_has_them() {
    for (before, removed) in [
        ("\u{feff}{}", "the byte order mark"),
        ("{\n  \"a\": [1, 2,] // x\n}", "the trailing comma in line 2"),
        ("{\n  \"a\": 1, // x\n}", "the trailing comma in line 2"),
        ("{ // a\u{a0}space\n}", "the space U+00A0 in line 1"),
    ] {
        let machine = Machine::with(before);
        let applied = machine.apply(Destination::User).unwrap();
        assert_eq!(applied.files[0].removed, [removed]);
        assert_eq!(strict::refusal(&machine.text(Scope::User)), None);
        let backup = applied.files[0].backup.as_ref().unwrap();
        assert_eq!(fs::read_to_string(backup).unwrap(), before);
        machine.remove(&applied);
        assert_eq!(machine.text(Scope::User), before);
    }
}

#[test]
fn a_mark_alone_is_removed_too() {
    let machine = Machine::with("{}");
    machine.apply(Destination::User).unwrap();
    let text = machine.text(Scope::User);
    machine.put(Scope::User, &format!("\u{feff}{text}"));
    let applied = machine.apply(Destination::User).unwrap();
    assert!(applied.files[0].changes.is_empty());
    assert_eq!(machine.text(Scope::User), text);
    assert!(machine.apply(Destination::User).unwrap().is_empty());
}

#[test]
fn what_gemini_cli_refuses_for_good_reason_is_left_alone() {
    for text in ["{\"a\": \"x\ty\"}", "{\"a\": 01}"] {
        let machine = Machine::with(text);
        let error = machine.apply(Destination::User).unwrap_err();
        assert!(matches!(error, Error::Refused { .. } | Error::Parse { .. }), "{error}");
        assert_eq!(machine.text(Scope::User), text);
    }
}

#[test]
fn a_preview_shows_what_will_be_in_effect() {
    let machine = Machine::with("{}");
    let environment = machine.environment();
    let plan = plan(&machine.places(), &environment, Destination::User, &values(9379)).unwrap();
    assert!(!machine.load().router().enabled.value);
    assert!(plan.preview(&machine.places(), &environment).router().enabled.value);
}

#[test]
fn of_keys_that_are_there_twice_the_last_one_is_changed() {
    let text = "{\n  \"experimental\": { \"gemmaModelRouter\": { \"enabled\": false } },\n  \
                \"experimental\": { \"gemmaModelRouter\": { \"enabled\": false, \"enabled\": false } }\n}\n";
    let machine = Machine::with(text);
    machine.apply(Destination::User).unwrap();
    let after = machine.text(Scope::User);
    assert!(
        after.contains("{ \"gemmaModelRouter\": { \"enabled\": false } },\n"),
        "{after}"
    );
    assert!(machine.router().enabled.value);
}

#[test]
fn something_else_in_place_of_an_object_is_refused() {
    for (text, key, place) in [
        (
            "{\n \"experimental\": \"x\"\n}",
            "`experimental` is a string",
            "line 2, column 18",
        ),
        (
            r#"{"experimental": null}"#,
            "`experimental` is null",
            "line 1, column 18",
        ),
        (
            r#"{"experimental": {"gemmaModelRouter": [true]}}"#,
            "`experimental.gemmaModelRouter` is an array",
            "line 1, column 39",
        ),
        (
            r#"{"experimental": {"gemmaModelRouter": {"classifier": 5}}}"#,
            "`experimental.gemmaModelRouter.classifier` is a number",
            "line 1, column 54",
        ),
    ] {
        let machine = Machine::with(text);
        let error = machine.apply(Destination::User).unwrap_err();
        assert!(error.to_string().contains(key), "{error}");
        assert!(error.to_string().contains(place), "{error}");
        assert_eq!(machine.text(Scope::User), text);
        assert!(machine.backup_texts().is_empty());
    }
}

#[test]
fn the_text_from_before_is_kept_as_a_backup() {
    let machine = Machine::with("{ /* mine */ }");
    let applied = machine.apply(Destination::User).unwrap();
    assert_eq!(machine.backup_texts(), ["{ /* mine */ }"]);
    let backup = applied.files[0].backup.as_ref().unwrap();
    assert_eq!(backup.file_name().unwrap(), "settings.json.20261121T010203.000000Z");
}

#[test]
fn without_a_backup_nothing_is_written() {
    let machine = Machine::with("{}");
    fs::create_dir_all(machine.backups().parent().unwrap()).unwrap();
    fs::write(machine.backups(), "in the way").unwrap();
    let error = machine.apply(Destination::User).unwrap_err();
    assert!(matches!(error, Error::Backup { .. }));
    assert_eq!(machine.text(Scope::User), "{}");
}

#[test]
fn a_read_only_file_is_left_alone() {
    let machine = Machine::with("{}");
    let path = machine.file(Scope::User);
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions).unwrap();
    let failure = crate::error::Failure::from(machine.apply(Destination::User).unwrap_err());
    assert_eq!(failure.kind.exit_status(), 8);
    assert!(failure.message.contains(&path.display().to_string()));
    assert!(failure.hint.unwrap().contains("writable"));
    assert_eq!(machine.text(Scope::User), "{}");
}

#[test]
fn a_directory_in_place_of_the_file_is_refused() {
    let machine = Machine::new();
    fs::create_dir_all(machine.file(Scope::User)).unwrap();
    assert!(matches!(machine.apply(Destination::User), Err(Error::Read { .. })));
    assert!(machine.file(Scope::User).is_dir());
}

#[test]
fn when_one_of_two_files_cannot_be_written_neither_is() {
    for user in [None, Some("{}")] {
        let machine = Machine::new();
        if let Some(text) = user {
            machine.put(Scope::User, text);
        }
        // A file where the workspace's `.gemini` directory should be.
        fs::write(machine.dir.path().join("work/.gemini"), "").unwrap();
        assert!(matches!(
            machine.apply(Destination::Workspace),
            Err(Error::Write { .. })
        ));
        assert_eq!(fs::read_to_string(machine.file(Scope::User)).ok().as_deref(), user);
    }
}

#[test]
fn a_file_that_changed_after_the_plan_is_left_alone() {
    let machine = Machine::with("{}");
    let plan = machine.plan(Destination::User).unwrap();
    machine.put(Scope::User, "{ \"a\": 1 }");
    assert!(matches!(
        plan.prepare(&machine.backups(), now()).and_then(Prepared::commit),
        Err(Error::Changed { .. })
    ));
    assert_eq!(machine.text(Scope::User), "{ \"a\": 1 }");
}
