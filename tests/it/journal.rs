//! Interrupted changes of the settings are on record and can be undone.

use std::fs;

use serde_json::Value;

use super::harness::{Home, assert_says};

const OWN: &str = "{\n  // mine\n  \"ui\": {},\n}\n";

/// Marks the recorded changes of the settings as planned only.
fn forget_the_end(home: &Home) {
    let path = home.layout().state_file();
    let mut state: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    state["pending"] = state["settings"].take();
    state["settings"] = serde_json::json!({"files": []});
    fs::write(&path, state.to_string()).unwrap();
}

#[test]
fn settings_written_before_a_kill_are_taken_back() {
    let home = Home::new();
    home.write(&home.settings(), OWN);
    home.gem(&["settings", "apply"]).ok();
    forget_the_end(&home);
    let scrap = home.layout().gemini().join(".gem-setup-x.tmp");
    fs::write(&scrap, "half").unwrap();
    home.gem(&["uninstall"]).ok();
    assert_eq!(fs::read_to_string(home.settings()).unwrap(), OWN);
    assert!(!scrap.exists(), "the temporary file of the killed process is left");
}

#[test]
fn settings_not_written_before_a_kill_are_left_alone() {
    let home = Home::new();
    home.write(&home.settings(), OWN);
    home.gem(&["settings", "apply"]).ok();
    forget_the_end(&home);
    fs::write(home.settings(), OWN).unwrap();
    home.gem(&["settings", "apply"]).ok();
    home.gem(&["uninstall"]).ok();
    assert_eq!(fs::read_to_string(home.settings()).unwrap(), OWN);
}

#[test]
fn the_first_settings_survive_many_changes() {
    let home = Home::new();
    let own = r#"{ "theme":"x","a":[1,2,],}"#;
    home.write(&home.settings(), own);
    for port in 25_801..25_813 {
        home.gem(&["settings", "apply", "--port", &port.to_string()]).ok();
    }
    home.gem(&["uninstall"]).ok();
    assert_eq!(fs::read_to_string(home.settings()).unwrap(), own);
}

#[test]
fn removing_one_scope_leaves_the_other() {
    let home = Home::new();
    home.gem(&["settings", "apply", "--scope", "workspace"]).ok();
    let user = fs::read_to_string(home.settings()).unwrap();
    let removed = home.gem(&["settings", "remove", "--scope", "workspace"]).ok();
    assert_says(&removed.stdout, &["work/.gemini/settings.json", "deleted"]);
    assert_eq!(fs::read_to_string(home.settings()).unwrap(), user);
    home.gem(&["settings", "remove"]).ok();
    assert!(!home.settings().exists());
}

#[test]
fn uninstall_restores_settings_that_were_removed_and_applied_again() {
    let home = Home::new();
    home.write(&home.settings(), OWN);
    for action in ["apply", "remove", "apply", "remove"] {
        home.gem(&["settings", action]).ok();
    }
    home.gem(&["uninstall"]).ok();
    assert_eq!(fs::read_to_string(home.settings()).unwrap(), OWN);
}
