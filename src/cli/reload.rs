//! Watches the files of the running server. The server applies a change, or logs that it needs a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gem_setup::error::{Failure, Kind};
use gem_setup::gateway::{Config, Gateway};
use gem_setup::place;
use gem_setup::runtime::Stamp;
use gem_setup::settings::{Places, Scope};
use gem_setup::sha256::Sha256;
use gem_setup::supervise::Claim;
use tokio::sync::watch;

use super::args::Command;
use super::gateway::gateway_config;
use super::parse::{Parsed, fault_of, innermost, parse};
use super::server::{Server, option_of};
use super::session::Session;

/// The interval between two looks at the files. The system's notifications would miss changes behind links and mounts.
const EVERY: Duration = Duration::from_secs(2);

/// The options that the gateway can apply while it runs. Other changes need a restart.
const LIVE: [&str; 13] = [
    "account",
    "ca-cert",
    "classifier-deadline",
    "classifier-prompt",
    "drain-delay",
    "drain-timeout",
    "fast-path",
    "max-retry-wait",
    "models",
    "on-classifier-failure",
    "on-fallback",
    "threshold",
    "upstream",
];

/// Sends the gateway its new configuration whenever a file that `server` reads has changed.
pub(crate) async fn follow(
    session: &Session<'_>,
    server: &Server<'_>,
    claim: &Claim,
    updates: watch::Sender<Config>,
) -> Infallible {
    let mut seen = stamps(files(session, server), &Stamps::new());
    let mut refused: Option<Refused> = None;
    loop {
        tokio::time::sleep(EVERY).await;
        let now = stamps(seen.keys().cloned(), &seen);
        let changes = match (Changes::between(&seen, &now), &refused) {
            (Some(changes), _) => changes,
            // It may name a file that is not watched yet.
            (None, Some(refused)) => refused.changes.clone(),
            (None, None) => {
                seen = now;
                continue;
            }
        };
        seen = now;
        let taken_over = send_renewed(session, server, claim, &updates, &mut seen, &changes);
        let new = taken_over.err().map(|reason| Refused { changes, reason });
        if let Some(new) = new.as_ref().filter(|new| refused.as_ref() != Some(new)) {
            new.report(claim);
        }
        refused = new;
    }
}

/// The changes of the files since the last look, in words.
#[derive(Clone, PartialEq)]
struct Changes {
    /// The files, and whether each changed or is gone.
    text: String,
    /// Whether a file is gone.
    has_gone: bool,
}

impl Changes {
    /// The changes from `seen` to `now`, if there are any.
    fn between(seen: &Stamps, now: &Stamps) -> Option<Self> {
        let is_changed = |file: &Path, now: &Option<Seen>| match (seen.get(file), now) {
            (Some(Some(before)), Some(now)) => now.differs(before),
            (before, now) => before != Some(now),
        };
        let changed = now.iter().filter(|(file, now)| is_changed(file, now));
        let (gone, other): (Vec<_>, Vec<_>) = changed.partition(|(_, seen)| seen.is_none());
        let has_gone = !gone.is_empty();
        let parts = [(other, "changed"), (gone, "is gone")].into_iter();
        let parts = parts.filter(|(files, _)| !files.is_empty()).map(|(files, what)| {
            let files: Vec<String> = files.iter().map(|(file, _)| format!("`{}`", file.display())).collect();
            format!("{} {what}", files.join(" and "))
        });
        let text = parts.collect::<Vec<_>>().join("; ");
        (!text.is_empty()).then_some(Self { text, has_gone })
    }

    /// The changes, and that they are in force.
    fn in_force(&self) -> String {
        match self.has_gone {
            true => format!("{}; the settings without it are in force", self.text),
            false => format!("{} and is in force", self.text),
        }
    }
}

/// A change that is not in force.
#[derive(PartialEq)]
struct Refused {
    changes: Changes,
    reason: String,
}

impl Refused {
    fn report(&self, claim: &Claim) {
        let Self { changes, reason } = self;
        let reason = format!("{}, but the former settings stay in force: {reason}", changes.text);
        tracing::warn!("{reason}");
        claim.renew(None, Some(reason));
    }
}

/// Sends the gateway the configuration that the files describe now. The log and `status` report changes that need a restart.
///
/// # Errors
/// Why the configuration cannot be used.
fn send_renewed(
    session: &Session<'_>,
    server: &Server<'_>,
    claim: &Claim,
    updates: &watch::Sender<Config>,
    seen: &mut Stamps,
    changes: &Changes,
) -> Result<(), String> {
    let found = renewed(session, &session.args).and_then(|renewed| {
        // A changed configuration may name other files, so this list is made afterwards.
        for file in files(session, &renewed) {
            seen.entry(file).or_insert_with_key(|file| Seen::of(file, None));
        }
        let config = gateway_config(session, &renewed.spec, &renewed.args)?;
        // A restart would refuse it.
        Gateway::check(&config)?;
        let port = port_after_restart(session, server)?;
        Ok((renewed, config, port))
    });
    let (renewed, config, port) = found.map_err(|failure| {
        let hint = failure.hint.map_or_else(String::new, |hint| format!("; {hint}"));
        format!("{}{hint}", failure.message)
    })?;
    updates.send_replace(config);
    let stale = stale(server, &renewed, port);
    if stale.is_empty() {
        let fault = broken_settings(session);
        match &fault {
            Some(fault) => tracing::warn!("{}; {fault}", changes.text),
            None => tracing::info!("{}", changes.in_force()),
        }
        claim.renew(Some(&renewed.spec.identity()), fault);
    } else {
        let remedy = if is_recorded(session, &renewed, port) {
            "restart"
        } else {
            "install"
        };
        let reason = format!("{}: run `gem-setup {remedy}` to apply the change", stale.join(", "));
        tracing::warn!("{}; {reason}", changes.text);
        claim.renew(None, Some(reason));
    }
    warn_of_client(session, server);
    Ok(())
}

/// Whether a server as `renewed`, on `port`, is what `install` recorded. Otherwise only `install` also changes the rest of
/// the machine.
fn is_recorded(session: &Session<'_>, renewed: &Server<'_>, port: u16) -> bool {
    let wanted = &renewed.spec.chosen;
    session.state().is_ok_and(|state| {
        let recorded = &state.chosen;
        (recorded.port, recorded.runtime, &recorded.model) == (port, wanted.runtime, &wanted.model)
    })
}

/// Why one of Gemini CLI's settings files is ignored.
fn broken_settings(session: &Session<'_>) -> Option<String> {
    let settings = session.settings().ok()?;
    let error = settings.errors().next()?;
    let failure = Failure::of(error);
    Some(format!("Gemini CLI's settings are not in force: {}", failure.message))
}

/// Warns if Gemini CLI's settings lead to another server.
fn warn_of_client(session: &Session<'_>, server: &Server<'_>) {
    let Ok(settings) = session.settings() else {
        return;
    };
    let router = settings.router();
    let port = format!(":{}", server.spec.chosen.port);
    if router.enabled.value && !router.classifier_host.value.trim_end_matches('/').ends_with(&port) {
        let host = &router.classifier_host.value;
        tracing::warn!("Gemini CLI's router asks `{host}`, not this server: run `gem-setup doctor` for the fix");
    }
}

/// The port on which `restart` would start this server. The server's command line always names a port, even if the user
/// gave none.
fn port_after_restart(session: &Session<'_>, server: &Server<'_>) -> Result<u16, Failure> {
    let named = format!("--port={}", server.spec.chosen.port);
    if server.spec.given.contains(&named) {
        return Ok(server.spec.chosen.port);
    }
    let mut args = session.args.clone();
    args.retain(|arg| *arg != *named);
    Ok(renewed(session, &args)?.spec.chosen.port)
}

/// The server that the command line `args` and the files describe now.
fn renewed<'s>(session: &'s Session<'_>, args: &[OsString]) -> Result<Server<'s>, Failure> {
    let parsed = parse(args, &session.environment).map_err(fault_of)?;
    let Parsed {
        cli, matches, layers, ..
    } = parsed;
    let (Command::Serve(args) | Command::Start(args) | Command::Restart(args)) = cli.command else {
        return Err(Failure::new(Kind::Unexpected, "the command does not run a server"));
    };
    Server::resolve(session, args.server, innermost(&matches), &layers)
}

/// The options that only a restart can apply and that differ between `server` and `renewed` (on `port`).
fn stale(server: &Server<'_>, renewed: &Server<'_>, port: u16) -> Vec<String> {
    let (old, new) = (&server.spec.chosen, &renewed.spec.chosen);
    let recorded = [
        ("port", old.port != port),
        ("runtime", old.runtime != new.runtime),
        ("model", old.model != new.model),
        ("direct", old.direct != new.direct),
    ];
    let mut stale: BTreeSet<&str> = recorded
        .into_iter()
        .filter_map(|(name, differs)| differs.then_some(name))
        .collect();
    let is_in_both = |word: &&String| server.options.contains(word) && renewed.options.contains(word);
    let words = server
        .options
        .iter()
        .chain(&renewed.options)
        .filter(|word| !is_in_both(word));
    stale.extend(words.map(|word| option_of(word)).filter(|name| !LIVE.contains(name)));
    stale
        .iter()
        .map(|name| format!("`{}` changed", name.replace('-', "_")))
        .collect()
}

/// The files that the server depends on: configuration, models, certificates, Gemini CLI's settings and `.env`.
fn files(session: &Session<'_>, server: &Server<'_>) -> Vec<PathBuf> {
    let (layout, directory) = (&session.layout, session.environment.current_dir());
    let config = session.config.clone().unwrap_or_else(|| layout.config_file());
    let own = [server.args.models.clone(), server.args.ca_cert.clone()];
    let delivered = layout.hosted_models_file();
    let places = Places::new(server.site.os(), &session.environment, layout.home());
    let settings = Scope::ALL
        .into_iter()
        .filter_map(|scope| places.file(scope).map(Path::to_owned));
    let env = [directory, layout.home()].map(|directory| [directory.join(".gemini/.env"), directory.join(".env")]);
    let mut files = vec![config, delivered];
    files.extend(own.into_iter().flatten().map(|file| directory.join(file)));
    files.extend(settings.chain(env.into_iter().flatten()));
    files
}

/// The files as they were last seen; `None` for one that is missing.
type Stamps = BTreeMap<PathBuf, Option<Seen>>;

/// A file's stamp, and the hash of its content if that could be read.
#[derive(Clone, Copy, PartialEq)]
struct Seen {
    stamp: Stamp,
    content: Option<Sha256>,
}

impl Seen {
    /// The file at `path`, which was last seen as `before`.
    fn of(path: &Path, before: Option<&Self>) -> Option<Self> {
        let stamp = Stamp::of(path)?;
        let hash = || place::read(path).ok().map(Sha256::of);
        let same = before.filter(|before| before.stamp == stamp).copied();
        Some(same.unwrap_or_else(|| Self { stamp, content: hash() }))
    }

    /// Whether the content differs; the stamp decides if it cannot be read.
    fn differs(&self, other: &Self) -> bool {
        match self.content.zip(other.content) {
            Some((one, other)) => one != other,
            None => self != other,
        }
    }
}

fn stamps(files: impl IntoIterator<Item = PathBuf>, before: &Stamps) -> Stamps {
    let look = |file: PathBuf| {
        let seen = Seen::of(&file, before.get(&file).and_then(Option::as_ref));
        (file, seen)
    };
    files.into_iter().map(look).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_gone_or_changed_are_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let there = stamps([file.path().to_owned()], &Stamps::new());
        let gone = BTreeMap::from([(file.path().to_owned(), None)]);
        let said = Changes::between(&there, &gone).unwrap().in_force();
        assert!(
            said.ends_with("is gone; the settings without it are in force"),
            "{said}"
        );
        let said = Changes::between(&gone, &there).unwrap().in_force();
        assert!(said.ends_with("changed and is in force"), "{said}");
        file.as_file().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let touched = stamps([file.path().to_owned()], &there);
        assert!(touched != there && Changes::between(&there, &touched).is_none());
    }
}
