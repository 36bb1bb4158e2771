//! `--scope system`: the installation for all users of a machine. Only root may see and change it. Its home is not
//! root's home.

use std::env;
use std::ffi::OsString;

use clap::ArgMatches;
use gem_platform::process::{Program, become_program};
use gem_platform::service;
use gem_setup::error::{Failure, Kind};
use gem_setup::layout::SYSTEM_HOME;
use gem_setup::settings::Destination;
use gem_setup::setup::{is_hidden_from_service, machine_service};
use gem_setup::shell;

use super::session::Session;

/// Switches this process to the machine's home if the command in `matches`, or its home, is for all users.
pub(crate) fn enter(session: &Session<'_>, matches: &ArgMatches) -> Result<(), Failure> {
    if matches.try_get_one::<Destination>("scope").ok().flatten() == Some(&Destination::System) {
        check(session)?;
    }
    if !session.layout.is_of_system() || session.environment.user_home() == SYSTEM_HOME {
        return Ok(());
    }
    // The runtimes keep their models in the directory that `HOME` names.
    let home = ("HOME".into(), SYSTEM_HOME.into());
    let path = session
        .environment
        .var("PATH")
        .map(|path| ("PATH".into(), visible(path)));
    let program = Program {
        path: session.program()?,
        args: session.args.iter().skip(1).cloned().collect(),
        env: [home].into_iter().chain(path).collect(),
        ..Program::default()
    };
    become_program(&program).map_err(|error| {
        let message = format!("cannot start `{}` again: {error}", program.path.display());
        Failure::new(Kind::Unexpected, message)
    })
}

/// The directories of `path` that the service can see. A runtime made by a Python from any other directory would not
/// start there.
fn visible(path: &str) -> OsString {
    let places = env::split_paths(path).filter(|place| !is_hidden_from_service(place));
    env::join_paths(places).unwrap_or_else(|_| path.into())
}

fn check(session: &Session<'_>) -> Result<(), Failure> {
    let os = session.target()?.os;
    machine_service(os)?;
    if !session.layout.is_of_system() {
        let home = session.layout.home().display();
        let failure = Failure::new(Kind::Usage, format!("cannot use the home `{home}` for all users"));
        return Err(failure.with_hint(format!("leave out `--home`: `--scope system` uses `{SYSTEM_HOME}`")));
    }
    if service::user_id() == 0 {
        return Ok(());
    }
    // `sudo` drops variables.
    let scope = (!session.is_given("--scope")).then(|| "--scope system".to_owned());
    let words = session.args.iter().map(|word| shell::word(os, word)).chain(scope);
    let command = words.collect::<Vec<_>>().join(" ");
    let failure = Failure::new(
        Kind::Usage,
        "`--scope system` needs root: it is for all users of this machine",
    );
    Err(failure.with_hint(format!("run `sudo {command}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_for_all_users_is_made_with_what_it_sees() {
        let path = |places: &[&str]| env::join_paths(places).unwrap();
        let all = path(&["/root/.pyenv/shims", "/usr/bin", "/home/ada/.local/bin", "/rooted/bin"]);
        assert_eq!(visible(all.to_str().unwrap()), path(&["/usr/bin", "/rooted/bin"]));
    }
}
