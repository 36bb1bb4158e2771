//! The command `man`.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use gem_setup::error::Failure;
use gem_setup::place::{at, write_own};

use super::args::Cli;
use crate::report::Printer;

/// Writes a manual page for gem-setup and one for each command into the existing directory `directory`.
pub(crate) fn run(printer: &Printer, directory: &Path) -> Result<ExitCode, Failure> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let is_there = directory.read_dir().map(drop);
    is_there.and_then(|()| write(command, directory)).map_err(|error| {
        let action = format_args!("write the manual pages to `{}`", directory.display());
        Failure::cannot(action, error).with_hint("name a directory that exists and can be written")
    })?;
    if printer.json() {
        printer.json_line(&serde_json::json!({"directory": directory}));
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the pages of `command` and its subcommands. A link in the place of a page is replaced.
fn write(command: Command, directory: &Path) -> io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write(below.clone(), directory)?;
    }
    let page = Man::new(command);
    let mut text = Vec::new();
    page.render(&mut text)?;
    let path = directory.join(page.get_filename());
    write_own(&path, &text).map_err(|error| at(&path, &error))
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn pages_replace_links_and_refuse_pipes() {
        let directory = tempfile::tempdir().unwrap();
        let [precious, page] = ["precious", "gem-setup.1"].map(|name| directory.path().join(name));
        fs::write(&precious, "precious").unwrap();
        std::os::unix::fs::symlink(&precious, &page).unwrap();
        write(Command::new("gem-setup"), directory.path()).unwrap();
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
        assert!(page.symlink_metadata().unwrap().is_file());
        fs::remove_file(&page).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&page).status().unwrap();
        assert!(made.success());
        let error = write(Command::new("gem-setup"), directory.path()).unwrap_err();
        assert!(error.to_string().contains("named pipe"), "{error}");
    }
}
