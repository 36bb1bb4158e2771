use super::*;

const MINE: &str = "{\n  // mine\n  \"theme\": \"x\"\n}\n";

/// The record as it comes back from the file it was kept in.
fn kept(applied: Applied) -> Applied {
    serde_json::from_str(&serde_json::to_string(&applied).unwrap()).unwrap()
}

#[test]
fn an_untouched_file_is_restored_byte_for_byte() {
    let machine = Machine::with(MINE);
    let applied = kept(machine.apply(Destination::User).unwrap());
    assert_eq!(machine.remove(&applied), [Outcome::Restored]);
    assert_eq!(machine.text(Scope::User), MINE);
}

#[test]
fn files_that_were_created_are_deleted_with_their_directory() {
    let machine = Machine::new();
    let applied = kept(machine.apply(Destination::Workspace).unwrap());
    assert_eq!(machine.remove(&applied), [Outcome::Deleted, Outcome::Deleted]);
    assert!(!machine.file(Scope::User).exists());
    assert!(!machine.dir.path().join("work/.gemini").exists());
    assert!(machine.backups().exists(), "the user's directory holds more and stays");
}

#[test]
fn what_was_edited_since_stays() {
    let machine = Machine::with(MINE);
    let applied = kept(machine.apply(Destination::User).unwrap());
    let edited = machine
        .text(Scope::User)
        .replace("\"theme\": \"x\"", "\"theme\": \"y\" /* new */");
    machine.put(Scope::User, &edited);
    assert_eq!(machine.remove(&applied), [Outcome::Edited]);
    assert_eq!(machine.text(Scope::User), MINE.replace("\"x\"", "\"y\" /* new */"));
}

#[test]
fn a_former_value_comes_back_as_it_was_typed() {
    let before = "{ \"experimental\": { \"gemmaModelRouter\": { \"enabled\": false, \"classifier\": {\n\
                  \"host\": \"http:\\u002f/localhost:1\", \"model\": [ /* odd */ ] } } } }\n";
    let machine = Machine::with(before);
    let applied = kept(machine.apply(Destination::User).unwrap());
    machine.put(Scope::User, &format!("{}// new\n", machine.text(Scope::User)));
    machine.remove(&applied);
    let text = machine.text(Scope::User);
    for part in [
        "\"enabled\": false",
        "\"host\": \"http:\\u002f/localhost:1\"",
        "\"model\": [ /* odd */ ]",
        "// new\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(
        !text.contains("binaryPath") && !text.contains("autoStartServer"),
        "{text}"
    );
}

#[test]
fn a_value_that_somebody_else_chose_since_stays() {
    let machine = Machine::with(MINE);
    let applied = machine.apply(Destination::User).unwrap();
    machine.put(
        Scope::User,
        &machine.text(Scope::User).replace("localhost:9379", "example:1"),
    );
    machine.remove(&applied);
    let router = machine.router();
    assert_eq!(router.classifier_host.value, "http://example:1");
    assert_eq!(router.enabled.origin, Origin::Default);
    assert_eq!(router.classifier_model.origin, Origin::Default);
}

#[test]
fn a_created_file_that_somebody_added_to_stays() {
    let machine = Machine::new();
    let applied = machine.apply(Destination::User).unwrap();
    let text = machine.text(Scope::User).replacen('{', "{\n  \"theme\": \"x\",", 1);
    machine.put(Scope::User, &text);
    assert_eq!(machine.remove(&applied), [Outcome::Edited]);
    assert_eq!(machine.text(Scope::User), "{\n  \"theme\": \"x\"\n}\n");
}

#[test]
fn objects_that_hold_something_else_stay() {
    let before = "{\n  \"experimental\": { \"plan\": true }\n}\n";
    let machine = Machine::with(before);
    let applied = machine.apply(Destination::User).unwrap();
    machine.put(Scope::User, &format!("{}\n", machine.text(Scope::User)));
    machine.remove(&applied);
    let text = machine.text(Scope::User);
    assert!(
        text.contains("\"plan\": true") && !text.contains("gemmaModelRouter"),
        "{text}"
    );
}

#[test]
fn two_runs_are_taken_back_as_one() {
    let machine = Machine::with(MINE);
    let first = machine.apply_port(Destination::User, 1).unwrap();
    let second = machine.apply_port(Destination::User, 2).unwrap();
    assert_eq!(second.files[0].changes.len(), 1);
    let applied = kept(first.then(second));
    assert_eq!(machine.remove(&applied), [Outcome::Restored]);
    assert_eq!(machine.text(Scope::User), MINE);
}

#[test]
fn an_edit_between_two_runs_is_kept() {
    let machine = Machine::with(MINE);
    let first = machine.apply_port(Destination::User, 1).unwrap();
    machine.put(
        Scope::User,
        &machine.text(Scope::User).replace("// mine", "// still mine"),
    );
    let applied = first.then(machine.apply_port(Destination::User, 2).unwrap());
    assert_eq!(machine.remove(&applied), [Outcome::Edited]);
    assert_eq!(machine.text(Scope::User), MINE.replace("// mine", "// still mine"));
}

#[test]
fn a_value_chosen_between_two_runs_comes_back() {
    let machine = Machine::with(MINE);
    let first = machine.apply_port(Destination::User, 1).unwrap();
    machine.put(
        Scope::User,
        &machine.text(Scope::User).replace("localhost:1", "example:5"),
    );
    let applied = first.then(machine.apply_port(Destination::User, 2).unwrap());
    machine.remove(&applied);
    assert_eq!(machine.router().classifier_host.value, "http://example:5");
    assert_eq!(machine.router().enabled.origin, Origin::Default);
}

#[test]
fn a_file_that_was_lost_between_two_runs_is_not_brought_back() {
    let machine = Machine::with(MINE);
    let first = machine.apply(Destination::User).unwrap();
    fs::remove_file(machine.file(Scope::User)).unwrap();
    let applied = first.then(machine.apply(Destination::User).unwrap());
    assert_eq!(machine.remove(&applied), [Outcome::Deleted]);
}

#[test]
fn runs_in_both_scopes_are_taken_back_in_both() {
    let machine = Machine::with(MINE);
    machine.put(Scope::Workspace, "{}");
    let first = machine.apply(Destination::User).unwrap();
    let applied = first.then(machine.apply(Destination::Workspace).unwrap());
    machine.remove(&applied);
    assert_eq!(machine.text(Scope::User), MINE);
    assert_eq!(machine.text(Scope::Workspace), "{}");
}

#[test]
fn a_lost_backup_is_no_obstacle() {
    let machine = Machine::with(MINE);
    let applied = machine.apply(Destination::User).unwrap();
    fs::remove_dir_all(machine.backups()).unwrap();
    assert_eq!(machine.remove(&applied), [Outcome::Edited]);
    assert_eq!(machine.text(Scope::User), MINE);
}

#[test]
fn a_changed_backup_is_not_trusted() {
    let machine = Machine::with(MINE);
    let applied = machine.apply(Destination::User).unwrap();
    fs::write(applied.files[0].backup.as_ref().unwrap(), "{ \"theme\": \"evil\" }").unwrap();
    assert_eq!(machine.remove(&applied), [Outcome::Edited]);
    assert_eq!(machine.text(Scope::User), MINE);
}

#[test]
fn a_file_that_is_gone_is_no_error() {
    let machine = Machine::with(MINE);
    let applied = machine.apply(Destination::User).unwrap();
    fs::remove_file(machine.file(Scope::User)).unwrap();
    assert_eq!(machine.remove(&applied), [Outcome::Unchanged]);
    assert!(!machine.file(Scope::User).exists());
}

#[test]
fn a_file_that_no_longer_parses_is_left_alone() {
    let machine = Machine::with(MINE);
    let applied = machine.apply(Destination::User).unwrap();
    machine.put(Scope::User, "{");
    assert!(matches!(
        remove(&applied, &machine.backups(), now()),
        Err(Error::Parse { .. })
    ));
    assert_eq!(machine.text(Scope::User), "{");
}

#[test]
fn without_a_record_the_routers_keys_go() {
    let machine = Machine::with(MINE);
    machine.apply(Destination::User).unwrap();
    assert_eq!(machine.clear(Destination::User), Outcome::Edited);
    assert_eq!(machine.text(Scope::User), MINE);
    assert_eq!(machine.clear(Destination::User), Outcome::Unchanged);
}

#[test]
fn without_a_record_keys_that_are_there_twice_go_twice() {
    let machine = Machine::with(
        "{\n  \"experimental\": {\n    \"gemmaModelRouter\": {\n      \"enabled\": true,\n      \"enabled\": true,\n      \
         \"other\": 1\n    }\n  }\n}\n",
    );
    machine.clear(Destination::User);
    assert_eq!(
        machine.text(Scope::User),
        "{\n  \"experimental\": {\n    \"gemmaModelRouter\": {\n      \"other\": 1\n    }\n  }\n}\n"
    );
}

#[test]
fn each_scope_is_cleared_by_itself() {
    let machine = Machine::new();
    machine.apply(Destination::Workspace).unwrap();
    let user = machine.text(Scope::User);
    assert_eq!(machine.clear(Destination::Workspace), Outcome::Edited);
    assert_eq!(machine.text(Scope::Workspace), "{}\n");
    assert_eq!(machine.text(Scope::User), user);
    assert_eq!(machine.clear(Destination::User), Outcome::Edited);
    assert_eq!(machine.text(Scope::User), "{}\n");
}

#[test]
fn a_comment_behind_the_last_member_stays() {
    for text in [
        "{ \"ui\": 1 /* keep me */ }\n",
        "{\n  \"ui\": 1 // keep me\n}\n",
        "{\"experimental\": {\"gemmaModelRouter\": {\"x\": true /* keep me */}}}\n",
        "{\n  \"experimental\": {\n    \"gemmaModelRouter\": {\n      \"x\": true/*\n keep me */}}}\n",
        "\u{feff}{\r\n  \"ui\": 1 /* keep me */ }\r\n",
    ] {
        let machine = Machine::with(text);
        let applied = machine.apply(Destination::User).unwrap();
        machine.put(Scope::User, &format!("{}\n// mine\n", machine.text(Scope::User)));
        remove(&applied, &machine.backups(), now()).unwrap();
        assert!(machine.text(Scope::User).contains("keep me"), "{text}");
        assert!(
            !machine.text(Scope::User).contains("gemmaModelRouter\": {\"enabled"),
            "{text}"
        );
    }
}

#[test]
fn an_object_with_a_comment_before_it_stays() {
    let machine = Machine::with("{\"experimental\": /* keep me */ {}}\n");
    machine.apply(Destination::User).unwrap();
    machine.clear(Destination::User);
    assert_eq!(machine.text(Scope::User), "{\"experimental\": /* keep me */ {}}\n");
}

#[test]
fn an_intent_counts_once_its_file_has_changed() {
    let machine = Machine::with(MINE);
    let plan = machine.plan(Destination::User).unwrap();
    let prepared = plan.prepare(&machine.backups(), now()).unwrap();
    let intent = prepared.applied().clone();
    assert_eq!(intent.clone().happened(), Applied::default());
    prepared.commit().unwrap();
    assert_eq!(intent.clone().happened(), intent);
}
