//! The command `completions`.

use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command, CommandFactory, ValueHint};
use clap_complete::Shell;
use gem_platform::Target;
use gem_setup::catalog::Catalog;

use super::args::Cli;
use crate::report::Printer;

const NAME: &str = "gem-setup";

/// Prints the completion script for `shell`.
pub(crate) fn run(printer: &Printer, shell: Shell) -> ExitCode {
    let script = script(shell);
    if printer.json() {
        printer.json_line(&serde_json::json!({"shell": shell.to_string(), "script": script}));
    } else {
        script.trim_end().lines().for_each(|line| printer.line(line));
    }
    ExitCode::SUCCESS
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut hinted(Cli::command()), NAME, &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    match shell {
        // clap_complete spells a name with a hyphen in two different ways, so the script's `case` never matches the
        // subcommand.
        Shell::Bash => script
            .replace("gem__subcmd__setup", "gem__setup")
            .replacen(BASH_WORDS, BASH_WORDS_AND_EQUALS, 1)
            .replace(BASH_OFFER, BASH_OFFER_ASKED)
            .replace(BASH_FILES, BASH_DEFAULT),
        Shell::Fish => script + &fish_arguments(),
        _ => script,
    }
}

/// `command` with what each option's value is, so that only paths are completed from the disk.
fn hinted(command: Command) -> Command {
    command.mut_args(with_hint).mut_subcommands(hinted)
}

/// `argument` with the kind of its value, read from the value's name in the help.
fn with_hint(argument: Arg) -> Arg {
    if !argument.get_action().takes_values() || !argument.get_possible_values().is_empty() {
        return argument;
    }
    let name = argument
        .get_value_names()
        .and_then(<[_]>::first)
        .map(ToString::to_string);
    match name.as_deref() {
        Some("MODEL") => match Catalog::built_in() {
            Ok(catalog) => argument.value_parser(PossibleValuesParser::new(names_in(&catalog))),
            Err(_) => argument.value_hint(ValueHint::Other),
        },
        Some("OS-ARCH") => argument.value_parser(PossibleValuesParser::new(Target::ALL.map(|it| it.to_string()))),
        Some("DIR") => argument.value_hint(ValueHint::DirPath),
        Some(name) if ["FILE", "PATH", "KEY"].iter().any(|path| name.contains(path)) => {
            argument.value_hint(ValueHint::AnyPath)
        }
        _ => argument.value_hint(ValueHint::Other),
    }
}

fn names_in(catalog: &Catalog) -> Vec<String> {
    catalog.model_names().map(str::to_owned).collect()
}

/// The words that clap_complete offers in bash behind a command: options too, whose common beginning `-` bash then inserts.
const BASH_OFFER: &str = "compgen -W \"${opts}\" --";
/// The same without the options whose beginning was not typed.
const BASH_OFFER_ASKED: &str = "compgen -W \"${opts}\" -X \"${unasked}\" --";

/// The files that clap_complete offers in bash: split at blanks, and directories end with one.
const BASH_FILES: &str = "COMPREPLY=($(compgen -f \"${cur}\"))";
/// Nothing, so that bash completes the path itself (`complete -o default`).
const BASH_DEFAULT: &str = "COMPREPLY=()";

/// The line of the bash script that reads the typed words.
const BASH_WORDS: &str = "    prev=\"$3\"\n";
/// The same with support for `--option=value`: bash treats `=` as a word of its own.
const BASH_WORDS_AND_EQUALS: &str = r#"    prev="$3"
    if [[ "${cur}" == "=" ]]; then
        cur=""
    elif [[ "${prev}" == "=" && "${COMP_CWORD}" -ge 2 ]]; then
        prev="${COMP_WORDS[COMP_CWORD-2]}"
    fi
    local unasked="-*"
    [[ "${cur}" == -* ]] && unasked=""
"#;

/// Completions for the commands' positional arguments, which clap_complete omits for fish.
fn fish_arguments() -> String {
    let mut lines = String::new();
    for command in hinted(Cli::command()).get_subcommands() {
        for argument in command.get_positionals() {
            let values = argument.get_possible_values();
            let values = values.iter().filter(|value| !value.is_hide_set()).map(|value| {
                let help = value.get_help().map(ToString::to_string).unwrap_or_default();
                format!("{}\\t'{}'", value.get_name(), help.replace('\'', "\\'"))
            });
            let values: Vec<String> = values.collect();
            let condition = format!("__fish_gem_setup_using_subcommand {}", command.get_name());
            if values.is_empty() && argument.get_value_hint() == ValueHint::Other {
                // fish would offer files.
                lines.push_str(&format!("complete -c {NAME} -n \"{condition}\" -f\n"));
            } else if !values.is_empty() {
                let values = values.join("\n");
                lines.push_str(&format!("complete -c {NAME} -n \"{condition}\" -f -a \"{values}\"\n"));
            }
        }
    }
    lines
}
