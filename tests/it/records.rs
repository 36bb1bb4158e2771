//! A command that waits for the home's lock keeps what the lock's owner has recorded.

use std::fs;
use std::thread;
use std::time::Duration;

use gem_setup::lock::Lock;
use serde_json::{Value, json};

use super::harness::{Gem, Home, Run, assert_says, finish};

/// A home without a server, whose runtime needs no download.
fn installed() -> Home {
    let home = Home::new();
    home.install(&["--runtime", "builtin", "--no-start", "--no-smoke"]).ok();
    home
}

/// Runs `gem`, which finds the home's lock taken; meanwhile the lock's owner makes the change `change`.
fn meanwhile(home: &Home, mut gem: Gem, change: impl FnOnce()) -> Run {
    let lock = Lock::try_acquire(&home.layout().lock_file()).unwrap().unwrap();
    let waiting = gem.spawn();
    // A command that has not begun by then reads the change, and must keep it too.
    thread::sleep(Duration::from_millis(700));
    change();
    drop(lock);
    finish(waiting)
}

fn state(home: &Home) -> Value {
    serde_json::from_slice(&fs::read(home.layout().state_file()).unwrap()).unwrap()
}

/// Changes one choice in the record, as another `install` does.
fn choose(home: &Home, name: &str, value: &Value) {
    let mut record = state(home);
    record[name] = value.clone();
    fs::write(home.layout().state_file(), record.to_string()).unwrap();
}

#[test]
fn settings_commands_keep_the_record_of_another_installation() {
    for command in ["apply", "remove"] {
        let home = installed();
        let run = meanwhile(&home, home.gem(&["settings", command]), || {
            choose(&home, "port", &json!(24_001))
        });
        assert_eq!(run.status, 0, "{run:#?}");
        // `apply` writes only a change.
        home.gem(&["settings", "remove"]).ok();
        assert_eq!(state(&home)["port"], 24_001, "{command}");
    }
}

#[test]
fn settings_are_applied_for_the_installation_that_counts() {
    let home = installed();
    let run = meanwhile(&home, home.gem(&["settings", "apply"]), || {
        choose(&home, "port", &json!(24_003))
    });
    assert_eq!(run.status, 0, "{run:#?}");
    assert_says(&home.router()["classifier"]["host"].to_string(), &["24003"]);
}

#[test]
fn settings_applied_during_an_uninstallation_do_not_bring_its_record_back() {
    let home = installed();
    let run = meanwhile(&home, home.gem(&["settings", "apply"]), || {
        fs::remove_file(home.layout().state_file()).unwrap();
    });
    assert_eq!(run.status, 0, "{run:#?}");
    assert_eq!(state(&home)["port"], 9379);
}

#[test]
fn no_choice_of_another_installation_is_undone() {
    let choices = [
        ("mirrors", json!(["https://mirror.example/"])),
        ("mirror_only", json!(true)),
        ("bundle", json!("/media/bundle")),
        ("direct", json!(true)),
    ];
    let commands = [
        &["install", "--force", "--no-start", "--no-smoke"][..],
        &["doctor", "--fix"],
    ];
    for ((name, value), command) in choices.iter().zip(commands.into_iter().cycle()) {
        let home = installed();
        let run = meanwhile(&home, home.gem(command), || choose(&home, name, value));
        assert_eq!(state(&home)[*name], *value, "{command:?}");
        assert_eq!(run.status, 9, "{run:#?}");
        let output = run.stdout + &run.stderr;
        assert_says(&output, &["another gem-setup changed", "run the command again"]);
    }
}

#[test]
fn a_recorded_catalog_is_not_put_back_over_another_one() {
    let home = installed();
    let text = "# another\n".to_owned() + &fs::read_to_string(home.layout().catalog_file()).unwrap();
    let install = home.gem(&["install", "--force", "--no-start", "--no-smoke"]);
    let run = meanwhile(&home, install, || {
        fs::write(home.layout().catalog_file(), &text).unwrap()
    });
    assert_eq!(fs::read_to_string(home.layout().catalog_file()).unwrap(), text);
    assert_eq!(run.status, 9, "{run:#?}");
}

#[test]
fn an_installation_with_the_same_choices_is_no_conflict() {
    let home = installed();
    let mirror = "https://mirror.example/";
    let install = home.gem(&["install", "--force", "--no-start", "--no-smoke", "--mirror", mirror]);
    let run = meanwhile(&home, install, || choose(&home, "mirrors", &json!([mirror])));
    assert_eq!(run.status, 0, "{run:#?}");
}
