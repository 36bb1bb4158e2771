//! Tries an executable of gem-setup before it is put in place: it must print its version, and route a request.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use gem_platform::process::Program;
use serde_json::Value;

use crate::error::{Failure, Kind};
use crate::runtime::{TRIAL, output_of};

/// The time for each answer.
const LIMIT: Duration = Duration::from_secs(60);
/// The built-in classifier needs neither a network nor a server.
const ROUTE: [&str; 5] = [
    "--json",
    "route",
    "--classifier",
    "builtin",
    "rename the file a.txt to b.txt",
];

/// Fails unless the executable at `path` prints `version` as its version, and routes a request.
pub(super) async fn check_works(path: &Path, what: &str, version: &str, hint: &str) -> Result<(), Failure> {
    let said = version_of(path).await;
    let fault = if said.as_deref() != Some(version) {
        let said = said.as_deref().unwrap_or("nothing");
        format!("it prints `{said}`, {version} is expected")
    } else if !routes(path).await? {
        "it prints its version, but does not decide which model a request goes to".to_owned()
    } else {
        return Ok(());
    };
    let message = format!("{what} does not work here, so nothing was replaced: {fault}");
    Err(Failure::new(Kind::Runtime, message).with_hint(hint))
}

/// The version that the executable at `path` prints.
pub(super) async fn version_of(path: &Path) -> Option<String> {
    let said = answer(path, ["version"]).await?;
    Some(said.trim().strip_prefix("gem-setup ")?.to_owned())
}

/// Whether the executable at `path` routes a request, in a temporary home.
async fn routes(path: &Path) -> Result<bool, Failure> {
    let home = tempfile::tempdir();
    let home = home.map_err(|error| Failure::cannot("make a directory to try gem-setup in", error))?;
    let args = [OsStr::new("--home"), home.path().as_os_str()];
    let said = answer(path, args.into_iter().chain(ROUTE.map(OsStr::new))).await;
    let decision = said.and_then(|said| serde_json::from_str::<Value>(&said).ok());
    Ok(decision.is_some_and(|decision| decision["model"].is_string() && decision["tier"].is_string()))
}

async fn answer(path: &Path, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Option<String> {
    let program = Program {
        path: path.to_owned(),
        args: args.into_iter().map(|arg| arg.as_ref().to_owned()).collect(),
        inherit: TRIAL,
        ..Program::default()
    };
    output_of(&program, LIMIT).await.ok()
}
