//! `route`: one request or many, from arguments, a terminal or a file.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::thread;

use serde_json::json;

use super::harness::{Gem, Home, assert_says};

#[test]
fn a_malformed_row_does_not_stop_the_others() {
    let home = Home::new();
    let file = home.beside("rows.jsonl");
    let rows = [
        "\u{feff}{\"id\": 1, \"request\": \"rename x to y\"}",
        "not JSON",
        "{\"id\": \"no request\"}",
        "",
        "{\"request\": \"why is the build slow?\"}",
    ];
    fs::write(&file, rows.join("\n")).unwrap();
    let run = home
        .gem(&["route", "--classifier", "builtin", "--batch"])
        .arg(&file)
        .ends(2);
    let lines = run.events();
    assert_eq!(lines.len(), 4, "{run:#?}");
    assert_eq!(lines[0]["id"], 1);
    assert!(
        lines[0]["model"].is_string() && lines[3]["model"].is_string(),
        "{run:#?}"
    );
    assert_eq!((&lines[1]["line"], lines[1].get("id")), (&json!(2), None));
    assert_eq!((&lines[2]["line"], &lines[2]["id"]), (&json!(3), &json!("no request")));
    assert_says(lines[2]["error"].as_str().unwrap(), &["request"]);
    assert_says(&run.stderr, &["line 2", "rows.jsonl", "and 1 more line", "hint"]);
}

#[test]
fn a_batch_may_come_from_standard_input() {
    let home = Home::new();
    let batch = || home.gem(&["route", "--classifier", "builtin", "--batch", "-"]);
    let lines = batch()
        .input("{\"id\": 1, \"request\": \"rename x to y\"}\n")
        .ok()
        .events();
    assert_eq!((lines.len(), &lines[0]["id"]), (1, &json!(1)));
    let run = batch().input("not JSON\n").ends(2);
    assert_says(&run.stderr, &["line 1 of `standard input`"]);
}

#[test]
fn a_malformed_row_is_named_by_its_line_and_its_column() {
    let home = Home::new();
    let file = home.beside("rows.jsonl");
    fs::write(&file, "{\"request\": \"hi\"}\n{1: 2}\n").unwrap();
    let run = home.gem(&["route", "--batch"]).arg(&file).ends(2);
    assert_says(&run.stderr, &["line 2", "at column 2"]);
    assert!(!run.stderr.contains("line 1"), "{run:#?}");
}

#[test]
fn a_model_that_did_not_answer_is_named_with_the_reason() {
    let home = Home::installed();
    let run = home.gem(&["route", "why is the build slow?"]).ok();
    assert_says(&run.stderr, &["the local model did not answer: ", "nothing listens"]);
}

#[test]
fn the_client_s_env_file_fixes_the_model() {
    let home = Home::new();
    home.write(&home.path().join(".gemini/.env"), "GEMINI_MODEL=gemini-2.5-flash\n");
    let route = ["--json", "route", "why is the build slow?"];
    assert_eq!(home.gem(&route).ok().json()["model"], "gemini-2.5-flash");
    let other = home.gem(&route).env("GEMINI_MODEL", "gemini-2.5-pro").ok();
    assert_eq!(other.json()["model"], "gemini-2.5-pro");
    assert_eq!(
        home.gem(&route).env("GEMINI_CLI_TRUST_WORKSPACE", "false").ok().json()["source"],
        "builtin-classifier"
    );
}

#[test]
fn the_threshold_comes_from_flag_or_environment() {
    let home = Home::new();
    let route = ["--json", "route", "--classifier", "builtin", "why is the build slow?"];
    let tier = |run: super::harness::Run| run.events()[0]["tier"].clone();
    assert_eq!(tier(home.gem(&route).args(["--threshold", "0"]).ends(0)), "pro");
    assert_eq!(tier(home.gem(&route).args(["--threshold", "1"]).ends(0)), "flash");
    assert_eq!(tier(home.gem(&route).env("GEM_SETUP_THRESHOLD", "1").ends(0)), "flash");
}

#[test]
fn a_threshold_outside_its_range_is_refused() {
    let home = Home::new();
    for (value, says) in [
        ("1.5", "between 0 and 1"),
        ("-0.1", "between 0 and 1"),
        ("half", "not a number"),
    ] {
        let run = home.gem(&["route", "--threshold", value, "hi"]).ends(2);
        assert_says(&run.stderr, &["--threshold", value, says]);
    }
}

#[test]
fn words_without_quotes_are_one_request() {
    let home = Home::new();
    let route = |words: &[&str]| {
        let gem = home.gem(&["route", "--json", "--classifier", "builtin"]);
        gem.args(words).ok().json()["probability"].clone()
    };
    let quoted = route(&["why is the build slow?"]);
    assert_eq!(route(&["why", "is", "the", "build", "slow?"]), quoted);
    assert_ne!(route(&["why"]), quoted);
}

#[test]
fn an_explanation_gives_the_probability() {
    let home = Home::new();
    let route = [
        "route",
        "--classifier",
        "builtin",
        "--explain",
        "why is the build slow?",
    ];
    assert_says(&home.gem(&route).ok().stdout, &["because:", "(probability of pro: 0."]);
}

#[cfg(unix)]
#[test]
fn a_terminal_is_asked_for_the_request() {
    let home = Home::new();
    let gem = home.gem(&["route", "--classifier", "builtin"]);
    let run = super::harness::on_a_terminal(gem, "type the request", "rename x to y\n\u{4}");
    assert_eq!(run.status, 0, "{run:#?}");
    assert_says(&run.stdout, &["Ctrl-D", "gemini-", "because:"]);
}

/// Another program of the same user listens on the port: neither gem-setup nor a runtime.
#[test]
#[cfg_attr(windows, ignore = "Wine does not tell whose a socket is")]
fn a_stranger_on_the_port_gets_no_prompt() {
    let home = Home::installed();
    let listener = TcpListener::bind(("127.0.0.1", home.port)).unwrap();
    let received = thread::spawn(move || {
        let mut bytes = Vec::new();
        while let Ok((mut stream, _)) = listener.accept() {
            let mut some = [0; 64];
            let read = stream.read(&mut some).unwrap_or(0);
            if some.starts_with(b"end") {
                return bytes;
            }
            bytes.extend_from_slice(&some[..read]);
        }
        bytes
    });
    let route = ["--json", "route", "--classifier", "model", "why is the build slow?"];
    assert_eq!(home.gem(&route).ok().json()["source"], "builtin-classifier");
    let port = home.port.to_string();
    assert_says(
        &home.gem(&["smoke"]).ends(9).stderr,
        &["nothing was sent", &port, "is taken by"],
    );
    let mut end = std::net::TcpStream::connect(("127.0.0.1", home.port)).unwrap();
    std::io::Write::write_all(&mut end, b"end").unwrap();
    assert_eq!(String::from_utf8_lossy(&received.join().unwrap()), "");
}

#[test]
fn the_built_in_runtime_decides_itself() {
    let home = Home::new();
    home.gem(&["install", "--runtime", "builtin", "--no-start", "--port"])
        .arg(home.port.to_string())
        .ok();
    let run = home.gem(&["route", "--explain", "why is the build slow?"]).ok();
    assert_says(&run.stdout, &["passed: the runtime `builtin` has no model"]);
    assert!(!run.stdout.contains("failed"), "{run:#?}");
}

#[test]
fn a_request_without_text_is_refused() {
    let home = Home::new();
    for (args, origin) in [
        (["route", ""].as_slice(), "the command line"),
        (&["--json", "route", " \n "], "the command line"),
        (&["route"], "standard input"),
    ] {
        assert_says(&home.gem(args).ends(2).stderr, &["an empty request", origin]);
    }
}

#[test]
fn auto_chooses_the_models_of_the_account() {
    let home = Home::new();
    let route = ["route", "--classifier", "builtin", "--json", "why is the build slow?"];
    let model = |gem: Gem| gem.ok().json()["model"].clone();
    assert_eq!(model(home.gem(&route)), "gemini-3.1-pro-preview");
    assert_eq!(
        model(home.gem(&route).args(["--account", "no-preview"])),
        "gemini-2.5-pro"
    );
    home.write(
        &home.settings(),
        r#"{"security": {"auth": {"selectedType": "gemini-api-key"}}}"#,
    );
    assert_eq!(model(home.gem(&route)), "gemini-3.1-pro-preview-customtools");
    home.gem(&route).args(["--account", "other"]).ends(2);
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_decides() {
    let enabled = r#"{"experimental": {"gemmaModelRouter": {"enabled": true}}}"#;
    for (name, content, says) in [
        ("settings.json", Some("{ broken"), "ignored here"),
        ("settings.json", None, "ignored here"),
        ("gem-setup/state.json", Some("{ broken"), "the defaults are used"),
        ("gem-setup/state.json", None, "the defaults are used"),
        ("gem-setup/server.json", None, "the local model is not asked"),
        (".env", None, "ignored here"),
    ] {
        let home = Home::new();
        home.write(&home.settings(), enabled);
        let path = home.layout().gemini().join(name);
        let _ = fs::remove_file(&path);
        match content {
            Some(content) => home.write(&path, content),
            None => fs::create_dir_all(&path).unwrap(),
        }
        for args in [["route"].as_slice(), &["route", "--json"]] {
            let run = home.gem(args).arg("why is the build slow?").ok();
            assert_says(&run.stdout, &["gemini-"]);
            assert_says(&run.stderr, &["warning", name, says]);
            assert_eq!(run.stderr.matches(says).count(), 1, "{run:#?}");
        }
    }
}
