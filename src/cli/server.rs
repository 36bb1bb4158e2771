//! A server resolved from its options: it can then be started, checked or installed as a service.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, ArgMatches, Args};
use gem_setup::environment::Environment;
use gem_setup::error::{Failure, Kind};
use gem_setup::gateway::Gateway;
use gem_setup::net::{SafeUrl, is_loopback};
use gem_setup::router::walk::OnFallback;
use gem_setup::runtime::{EngineActivity, NO_MODEL, Runtime};
use gem_setup::setup::{self, Chosen, ServerSpec, Site};
use gem_setup::sha256::Sha256;
use gem_setup::supervise::{BackoffLimits, CommandSource, EngineConfig, EngineOutput, HealthLimits, STOP_GRACE};

use super::gateway::config_in;
use super::layers::{Layers, Origin};
use super::options::{is_path, is_switch};
use super::server_args::ServerArgs;
use super::session::{Session, runtime_of};
use crate::report::Printer;

/// Options that the installation's record contains too: [`ServerSpec`] compares them with it.
const RECORDED: [&str; 4] = ["port", "runtime", "model", "direct"];
/// Options that also matter without a gateway.
const OF_ANY_SERVER: [&str; 3] = ["config", "verbose", "log-requests"];
/// Options without effect if there is no model.
const OF_THE_MODEL: [&str; 4] = [
    "classifier-deadline",
    "on-classifier-failure",
    "classifier-prompt",
    "fast-path",
];

/// A server and the options that describe it.
pub(crate) struct Server<'a> {
    pub(crate) spec: ServerSpec,
    pub(crate) args: ServerArgs,
    pub(crate) site: Site<'a>,
    /// The options, as words, that differ from the defaults and are not recorded.
    pub(crate) options: Vec<String>,
}

impl<'a> Server<'a> {
    /// Resolves the server from `args`; `matches` belong to the command that has these options.
    pub(crate) fn resolve(
        session: &'a Session<'_>,
        args: ServerArgs,
        matches: &ArgMatches,
        layers: &Layers,
    ) -> Result<Self, Failure> {
        let mut site = session.recorded_site()?;
        let recorded = &session.state()?.chosen;
        let mut chosen = recorded.clone();
        chosen.port = args.port.unwrap_or(chosen.port);
        chosen.direct = args.direct.unwrap_or(chosen.direct);
        if let Some(runtime) = args.runtime {
            chosen.runtime = runtime_of(runtime, &site.catalog, site.target);
        }
        site.place_release(chosen.runtime, session.state()?);
        if let Some(model) = &args.model {
            chosen.model.clone_from(model);
        }
        let known = known_choices(recorded, &chosen, layers);
        let Words { given, options } = Words::of(session, matches, layers)?;
        // Without a gateway, the runtime does not wait for open requests.
        let drain = if chosen.direct {
            Duration::ZERO
        } else {
            args.access.drain()
        };
        // A digest instead of the options, because an option may contain a secret.
        let digest = Sha256::of(options.join("\0"));
        let spec = ServerSpec::given(chosen, &known, given, digest, drain);
        Ok(Self {
            spec,
            args,
            site,
            options,
        })
    }

    /// Warns about given options that have no effect on this server; it can ask a person only if it `has_terminal`.
    pub(crate) fn warn_of_idle_options(&self, printer: &Printer, has_terminal: bool) {
        let is_idle = |name: &str| {
            if self.spec.chosen.direct {
                (!RECORDED.contains(&name) && !OF_ANY_SERVER.contains(&name))
                    .then_some("`--direct` leaves out the gateway")
            } else if name == "behind-proxy" && self.args.allow_remote != Some(true) {
                Some("without `--allow-remote` the gateway serves only this machine")
            } else if !self.spec.chosen.runtime.has_models() {
                OF_THE_MODEL.contains(&name).then_some(NO_MODEL)
            } else {
                None
            }
        };
        for word in &self.spec.given {
            let name = option_of(word);
            if let Some(reason) = is_idle(name) {
                printer.warning(&format!("`--{name}` has no effect: {reason}"));
            }
        }
        if self.args.on_fallback == OnFallback::Ask && !has_terminal && !self.spec.chosen.direct {
            printer.warning(
                "`--on-fallback ask` asks nobody: the server has no terminal, so its clients get the failure and may consent",
            );
        }
        let upstream = &self.args.upstream;
        if upstream.scheme() == "http" && !is_loopback(upstream) && !self.spec.chosen.direct {
            printer.warning(&format!(
                "requests to the upstream `{}` are not encrypted: others can read them and their keys; use `https://` if the upstream offers it",
                SafeUrl::from(upstream)
            ));
        }
        if let Some(reason) = self.args.model.as_ref().and_then(setup::refused_model) {
            let name = match self.spec.chosen.runtime.has_models() {
                true => String::new(),
                false => format!("; {NO_MODEL} and only answers to that name"),
            };
            printer.warning(&format!("{reason}{name}"));
        }
    }

    pub(crate) fn runtime(&self, session: &Session<'_>) -> Result<Box<dyn Runtime>, Failure> {
        self.site.runtime(&self.spec.chosen, session.state()?)
    }

    /// Finds faults in the options before anything is started or stopped.
    pub(crate) fn check(&self, session: &Session<'_>) -> Result<(), Failure> {
        check_options(session, (&self.spec, &self.args), &session.client_environment()?)
    }

    /// Checks that the model is present for a runtime without a gateway, because nothing holds requests back from it.
    pub(crate) async fn check_direct(&self, session: &Session<'_>) -> Result<(), Failure> {
        let is_missing = self.runtime(session)?.program().is_none_or(|program| !program.exists());
        if !self.spec.chosen.direct || is_missing {
            return Ok(());
        }
        let Some(gate) = self.site.gate(&self.spec.chosen, session.state()?)? else {
            return Ok(());
        };
        gate.open().await.map_err(|closed| {
            let failure = Failure::of(&closed);
            let message = format!("cannot serve without a gateway: {}", failure.message);
            Failure { message, ..failure }
        })
    }

    /// The supervised engine; `None` for a runtime without one.
    pub(crate) fn engine(&self, session: &Session<'_>) -> Result<Option<EngineConfig>, Failure> {
        let runtime = self
            .site
            .installed_runtime("serve", &self.spec.chosen, session.state()?)?;
        let Some(command) = runtime.serve() else {
            return Ok(None);
        };
        let chosen = &self.spec.chosen;
        let Some(gate) = self.site.gate(chosen, session.state()?)? else {
            return Ok(None);
        };
        let is_silenced = runtime.prints_requests() && self.args.log_requests != Some(true);
        Ok(Some(EngineConfig {
            command: CommandSource::following(
                command.edition(session.state()?.model_swaps),
                setup::current_command(&self.site, chosen),
            ),
            program_check: self.site.program_check(),
            model: chosen.model.to_string(),
            gate: Arc::new(gate),
            port: chosen.direct.then_some(chosen.port),
            output: if is_silenced {
                EngineOutput::ErrorsOnly
            } else {
                EngineOutput::All
            },
            guard: self.site.guard(),
            activity: EngineActivity::default(),
            cpu_time: gem_platform::process::cpu_time,
            health: HealthLimits::default(),
            backoff: BackoffLimits::default(),
            stop_grace: STOP_GRACE,
        }))
    }
}

/// Finds faults in the options of a server that starts in `environment`.
pub(super) fn check_options(
    session: &Session<'_>,
    (spec, args): (&ServerSpec, &ServerArgs),
    environment: &Environment,
) -> Result<(), Failure> {
    spec.check()?;
    if spec.chosen.direct {
        return Ok(());
    }
    Ok(Gateway::check(&config_in(session, (spec, args), environment)?)?)
}

/// The recorded choices, combined with those of the configuration file. The file is read again at a restart, so the
/// server's command line need not repeat its options.
fn known_choices(recorded: &Chosen, chosen: &Chosen, layers: &Layers) -> Chosen {
    let mut known = recorded.clone();
    if layers.file_says("port", &chosen.port.to_string()) {
        known.port = chosen.port;
    }
    if layers.file_says("runtime", &chosen.runtime.to_string()) {
        known.runtime = chosen.runtime;
    }
    if layers.file_says("model", chosen.model.as_str()) {
        known.model.clone_from(&chosen.model);
    }
    if layers.file_says("direct", &chosen.direct.to_string()) {
        known.direct = chosen.direct;
    }
    known
}

/// The name of the option in `word`, such as `fast-path` in `--fast-path=0.9`.
pub(super) fn option_of(word: &str) -> &str {
    word.trim_start_matches('-').split('=').next().unwrap_or_default()
}

/// The options as words, such as `--fast-path=0.9`, without those that are recorded.
struct Words {
    /// Options from the command line, a variable or the running server.
    given: Vec<String>,
    /// Options that differ from the defaults.
    options: Vec<String>,
}

impl Words {
    fn of(session: &Session<'_>, matches: &ArgMatches, layers: &Layers) -> Result<Self, Failure> {
        let (mut given, mut options) = (Vec::new(), Vec::new());
        let command = ServerArgs::augment_args(clap::Command::new("serve"));
        for arg in command.get_arguments() {
            let Some(name) = arg.get_long().filter(|name| !RECORDED.contains(name)) else {
                continue;
            };
            let mut words = words_of(session, arg, name, matches)?;
            if matches!(
                layers.origin(matches, name),
                Origin::Flag | Origin::Server | Origin::Environment
            ) {
                given.extend(words.iter().cloned());
            }
            // A switch that is off differs only from the configuration file, which is read again at a restart.
            words.retain(|word| !is_switch(arg) || !word.contains('='));
            let defaults = arg.get_default_values().iter().map(|value| value.to_string_lossy());
            if !words
                .iter()
                .cloned()
                .eq(defaults.map(|value| format!("--{name}={value}")))
            {
                options.extend(words);
            }
        }
        if let Some(config) = &session.config {
            given.push(word("config", config.as_os_str())?);
        }
        given.extend((0..session.verbose).map(|_| "--verbose".to_owned()));
        Ok(Self { given, options })
    }
}

/// The values of `arg` as command-line words, with absolute paths.
fn words_of(session: &Session<'_>, arg: &Arg, name: &str, matches: &ArgMatches) -> Result<Vec<String>, Failure> {
    let id = arg.get_id().as_str();
    if is_switch(arg) {
        let word = |is_on: &bool| {
            if *is_on {
                format!("--{name}")
            } else {
                format!("--{name}=false")
            }
        };
        return Ok(matches.get_one::<bool>(id).map(word).into_iter().collect());
    }
    let directory = is_path(arg).then(|| session.environment.current_dir());
    let values = matches.get_raw(id).into_iter().flatten();
    values
        .map(|value| match directory {
            Some(directory) => word(name, directory.join(value).as_os_str()),
            None => word(name, value),
        })
        .collect()
}

fn word(name: &str, value: &OsStr) -> Result<String, Failure> {
    let text = value.to_str().map(|value| format!("--{name}={value}"));
    text.ok_or_else(|| {
        let message = format!("cannot use `--{name}`: its value `{}` is not UTF-8", value.display());
        Failure::new(Kind::Usage, message).with_hint("use a path without such characters")
    })
}
