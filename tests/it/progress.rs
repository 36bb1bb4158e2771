//! Progress on a terminal, and where bars are not animated.

use gem_setup_support::fault::FaultServer;
use gem_setup_support::mirror::sha256_hex;

use super::harness::{Gem, Home, Run, assert_says, on_a_terminal, on_a_terminal_of, resize};

const LENGTH: usize = 3_000_000;
/// Bytes a second: slow enough for the bar to be drawn several times.
const RATE: u64 = 2_000_000;

/// Installs a runtime of [`LENGTH`] bytes on a terminal and returns the terminal's output.
fn installed(prepare: impl FnOnce(Gem) -> Gem) -> String {
    installed_by(|install| on_a_terminal(prepare(install), "platform", ""))
}

/// The same, run by `run`.
fn installed_by(run: impl FnOnce(Gem) -> Run) -> String {
    let content: Vec<u8> = (0..LENGTH).map(|at| (at % 251) as u8).collect();
    let home = Home::new();
    home.write_catalog(&sha256_hex(&content), None);
    let server = FaultServer::start(content);
    server.limit_rate(RATE);
    let install = home
        .gem(&["install", "--no-model", "--no-settings", "--no-start", "--mirror-only"])
        .args(["--mirror", &server.url(), "--catalog"])
        .arg(home.catalog());
    run(install).stdout
}

/// The texts between carriage returns, line feeds and escape sequences.
fn frames(shown: &str) -> Vec<&str> {
    let pieces = shown.split(['\r', '\n']).flat_map(|line| line.split("\u{1b}[2K"));
    pieces.filter(|piece| !piece.trim().is_empty()).collect()
}

#[test]
fn a_bar_fits_the_terminal_and_is_cleared() {
    let shown = installed(|gem| gem);
    let bars: Vec<&str> = frames(&shown)
        .into_iter()
        .filter(|frame| frame.contains("B/s"))
        .collect();
    assert!(!bars.is_empty(), "{shown:?}");
    for bar in bars {
        assert_says(bar, &["lit", "MB"]);
        assert!(!bar.contains("MiB") && bar.chars().count() < 80, "{bar:?}");
    }
    let after = shown.rsplit_once("B/s").unwrap().1;
    assert!(after.contains("\u{1b}[2K"), "the last bar is not cleared: {after:?}");
}

#[test]
fn progress_is_not_animated_on_dumb_terminals_or_in_ci() {
    for (name, value) in [("TERM", "dumb"), ("TERM", ""), ("CI", "true")] {
        let shown = installed(|gem| gem.env(name, value).args(["--color", "never"]));
        assert!(
            !shown.contains('\u{1b}') && !shown.contains("B/s"),
            "{name}={value}: {shown:?}"
        );
        assert_says(&shown, &["runtime: getting lit"]);
    }
}

/// A terminal wraps a bar that has become too long; its rows are cleared, and the next bar fits.
#[test]
fn a_bar_follows_the_size_of_the_terminal() {
    let shown = installed_by(|install| on_a_terminal_of(Some(100), install, "B/s", |terminal| resize(terminal, 40)));
    let (_, after) = shown.split_once("\u{1b}[0J").expect("no rows were cleared");
    let bars: Vec<&str> = frames(after).into_iter().filter(|frame| frame.contains("MB")).collect();
    assert!(!bars.is_empty(), "{shown:?}");
    for bar in bars {
        assert!(bar.chars().count() <= 40, "{bar:?}");
    }
}

/// Another terminal cuts the bar off; the row above it stays.
#[test]
fn a_terminal_that_cuts_lines_keeps_the_row_above_the_bar() {
    for (name, value) in [("XTERM_VERSION", "XTerm(390)"), ("STY", "1.pts"), ("TERM", "linux")] {
        let shown = installed_by(|install| {
            let install = install.env(name, value);
            on_a_terminal_of(Some(100), install, "B/s", |terminal| resize(terminal, 40))
        });
        assert!(!shown.contains("\u{1b}[0J"), "{name}: {shown:?}");
    }
}

#[test]
fn a_wait_for_the_server_is_shown_at_a_terminal() {
    let home = Home::new();
    let wait = || home.gem(&["status", "--wait", "2"]);
    let run = on_a_terminal(wait(), "waiting until the server is ready", "");
    assert_eq!(run.status, 7, "{run:#?}");
    assert_eq!(wait().ends(7).stderr, "");
}

#[test]
fn long_lines_break_at_words() {
    let home = Home::new();
    let piped = home.gem(&["doctor"]).ends(10).stdout;
    let run = on_a_terminal_of(
        Some(60),
        home.gem(&["doctor", "--color", "never"]),
        "not installed",
        |_| (),
    );
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&run.stdout), words(&piped));
    for line in run.stdout.lines().filter(|line| !line.contains('`')) {
        assert!(line.chars().count() <= 60, "{line:?}");
    }
    assert!(run.stdout.lines().count() > piped.lines().count(), "{run:#?}");
}
