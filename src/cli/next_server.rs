//! The server that an installation would start, checked before anything is changed.

use std::ffi::OsString;

use gem_setup::environment::Environment;
use gem_setup::error::Failure;
use gem_setup::net::{Network, is_loopback_down};
use gem_setup::settings::Destination;
use gem_setup::setup::{ServerSpec, Setup};
use gem_setup::supervise::{Running, observe};

use super::args::Command;
use super::parse::{fault_of, parse};
use super::server::check_options;
use super::session::Session;

/// Why `serve` would refuse the options that it will find in the configuration, in variables and in the running server, whose options
/// `install` keeps.
pub(crate) fn fault(session: &Session<'_>, setup: &Setup<'_>) -> Option<Failure> {
    // The server's port has a message of its own for a machine without loopback addresses.
    if !setup.site.is_for_this_machine() || is_loopback_down() {
        return None;
    }
    check(session, setup).err()
}

fn check(session: &Session<'_>, setup: &Setup<'_>) -> Result<(), Failure> {
    let layout = &setup.site.layout;
    let given = match observe(layout) {
        Ok(Running::Supervised(record)) => record.given(layout).unwrap_or_default(),
        _ => Vec::new(),
    };
    let spec = ServerSpec::installed(&setup.wanted.chosen, session.config.as_deref(), &given);
    let environment = environment(session, setup);
    let mut args: Vec<OsString> = vec![
        "gem-setup".into(),
        "serve".into(),
        "--home".into(),
        layout.home().into(),
    ];
    args.extend(spec.given.iter().map(OsString::from));
    let parsed = parse(&args, &environment).map_err(fault_of)?;
    let Command::Serve(args) = parsed.cli.command else {
        return Ok(());
    };
    let environment = session.client_environment_of(&environment)?;
    // Of the variables a warning tells if no server is started.
    let is_warned = || Network::from_environment(&environment, None).and_then(|network| network.check());
    if !setup.wanted.with_server && is_warned().is_err() {
        return Ok(());
    }
    check_options(session, (&spec, &args.server), &environment)
}

/// The environment of the server: a service for all users gets no variables of this process.
fn environment(session: &Session<'_>, setup: &Setup<'_>) -> Environment {
    let environment = &session.environment;
    match setup.wanted.chosen.scope == Destination::System || setup.site.layout.is_of_system() {
        true => Environment::new([], environment.current_dir(), environment.user_home()),
        false => environment.clone(),
    }
}
