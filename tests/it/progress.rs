//! Progress at a terminal, and where nothing can move.

use gem_setup_support::fault::FaultServer;
use gem_setup_support::mirror::sha256_hex;

use super::harness::{Gem, Home, assert_says, on_a_terminal};

const LENGTH: usize = 3_000_000;
/// Bytes a second: slow enough for the bar to be drawn a few times.
const RATE: u64 = 2_000_000;

/// Installs a runtime of [`LENGTH`] bytes at a terminal and returns what was written to it.
fn installed(prepare: impl FnOnce(Gem) -> Gem) -> String {
    let content: Vec<u8> = (0..LENGTH).map(|at| (at % 251) as u8).collect();
    let home = Home::new();
    home.write_catalog(&sha256_hex(&content), None);
    let server = FaultServer::start(content);
    server.limit_rate(RATE);
    let install = home
        .gem(&["install", "--no-model", "--no-settings", "--no-start", "--mirror-only"])
        .args(["--mirror", &server.url(), "--catalog"])
        .arg(home.catalog());
    on_a_terminal(prepare(install), "platform", "").stdout
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
fn nothing_moves_on_a_dumb_terminal_or_in_ci() {
    for (name, value) in [("TERM", "dumb"), ("CI", "true")] {
        let shown = installed(|gem| gem.env(name, value).args(["--color", "never"]));
        assert!(
            !shown.contains('\u{1b}') && !shown.contains("B/s"),
            "{name}={value}: {shown:?}"
        );
        assert_says(&shown, &["runtime: getting lit"]);
    }
}
