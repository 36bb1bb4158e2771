//! Options on the command line that have no effect without another one, or together with one.

use clap::ArgMatches;
use gem_setup::settings::Destination;

use super::layers::{Layers, Origin};
use super::parse::{innermost, names_of};
use crate::report::Printer;

/// The option of a command, and others.
type Row = (&'static [&'static str], &'static str, &'static [&'static str]);

/// Options that need one of the others.
const NEEDS: [Row; 14] = [
    (&["doctor"], "accept-terms", &["fix"]),
    (&["doctor"], "mirror", &["fix", "network"]),
    (&["doctor"], "mirror-only", &["fix", "network"]),
    (&["doctor"], "ca-cert", &["fix", "network"]),
    (&["doctor"], "catalog-url", &["update-check"]),
    (&["doctor"], "catalog-key", &["catalog-url"]),
    (&["doctor"], "update-check", &["catalog-url"]),
    (&["status"], "catalog-url", &["update-check"]),
    (&["status"], "catalog-key", &["catalog-url"]),
    (&["status"], "update-check", &["catalog-url"]),
    (&["upgrade"], "catalog-key", &["catalog-url"]),
    (&["install"], "catalog-key", &["catalog-url"]),
    (&["uninstall"], "yes", &["purge"]),
    (&["bundle", "create"], "accept-terms", &["model", "model-file"]),
];

/// Options that one of the others leaves without effect.
const YIELDS: [Row; 5] = [
    (&["pull"], "mirror", &["model-file"]),
    (&["pull"], "mirror-only", &["model-file"]),
    (&["pull"], "ca-cert", &["model-file"]),
    (&["upgrade"], "accept-terms", &["check"]),
    (&["upgrade"], "allow-older", &["check"]),
];

/// Commands whose `--scope` only tells the home's installation from the machine's.
const SCOPED: [&str; 3] = ["doctor", "status", "uninstall"];

/// Warns of given options without effect. One from the environment or the configuration is for all commands.
pub(super) fn warn(printer: &Printer, matches: &ArgMatches, layers: &Layers) {
    let names = names_of(matches);
    let matches = innermost(matches);
    let is_flag = |option: &str| is_flag(matches, layers, option);
    let idle = |rows: &'static [Row]| {
        rows.iter()
            .filter(|(command, option, _)| *command == names && is_flag(option))
    };
    for (_, option, others) in idle(&NEEDS) {
        if !others.iter().any(|other| is_given(matches, other)) {
            let others: Vec<String> = others.iter().map(|other| format!("`--{other}`")).collect();
            printer.warning(&format!("`--{option}` has no effect without {}", others.join(" or ")));
        }
    }
    if SCOPED.contains(&&*names.join(" ")) && is_flag("scope") {
        let scope = matches.get_one::<Destination>("scope");
        if scope == Some(&Destination::Workspace) {
            printer.warning("`--scope workspace` has no effect: one installation serves all workspaces");
        }
    }
    for (_, option, others) in idle(&YIELDS) {
        if let Some(other) = others.iter().find(|other| is_given(matches, other)) {
            printer.warning(&format!("`--{option}` has no effect with `--{other}`"));
        }
    }
}

/// Those of `options` that the command line of the command with `matches` contains.
pub(super) fn given<'a>(matches: &ArgMatches, layers: &Layers, options: &[&'a str]) -> Vec<&'a str> {
    let options = options.iter().copied();
    options.filter(|option| is_flag(matches, layers, option)).collect()
}

fn is_flag(matches: &ArgMatches, layers: &Layers, option: &str) -> bool {
    is_given(matches, option) && layers.origin(matches, option) == Origin::Flag
}

/// Whether `option` has a value, or is a switch that is on.
fn is_given(matches: &ArgMatches, option: &str) -> bool {
    let id = option.replace('-', "_");
    match matches.try_get_one::<bool>(&id) {
        Ok(switch) => switch == Some(&true),
        Err(_) => matches.try_contains_id(&id).unwrap_or(false),
    }
}
