//! Starts an engine, and describes how it ended.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitStatus;

use gem_platform::process::{Guard, Owner, Supervised};

use crate::runtime::{CommandLine, Endpoint};

/// Starts `command` on `port`, or on a free port.
///
/// # Errors
/// The reason why it cannot be started, in words.
pub(super) fn spawn(command: &CommandLine, port: Option<u16>, guard: &Guard) -> Result<(Supervised, Endpoint), String> {
    let address = free_address(port)?;
    let program = command.at_port(address.port());
    let engine = Supervised::spawn(&program, guard)
        .map_err(|error| format!("cannot start `{}`: {error}", program.path.display()))?;
    let endpoint = Endpoint::new(address, Owner::Process(engine.id()));
    Ok((engine, endpoint))
}

fn free_address(port: Option<u16>) -> Result<SocketAddr, String> {
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(0)));
    TcpListener::bind(wanted)
        .and_then(|listener| listener.local_addr())
        .map_err(|error| format!("cannot listen on {wanted}: {error}"))
}

/// How the engine ended, in words.
pub(super) fn describe(exit: io::Result<ExitStatus>) -> String {
    match exit {
        Ok(status) => format!("ended by itself ({status})"),
        Err(error) => format!("was lost ({error})"),
    }
}
