//! The context of a command: paths, environment, output and the record.

use std::cell::OnceCell;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gem_platform::Target;
use gem_setup::catalog::Catalog;
use gem_setup::environment::Environment;
use gem_setup::error::{Failure, Kind};
use gem_setup::fetch::Fetcher;
use gem_setup::layout::Layout;
use gem_setup::lock::{self, Lock};
use gem_setup::net::Network;
use gem_setup::progress::waiting;
use gem_setup::router::{ModelName, Models};
use gem_setup::runtime::{RuntimeName, litert_lm};
use gem_setup::settings::{self, EnvFile, Places, Settings};
use gem_setup::setup::{GivenFiles, Listing, Setup, Site, State, Tools, Wanted};
use gem_setup::shell;
use gem_setup::supervise::{self, Running};

use tokio::runtime::Runtime;

use super::args::NetworkArgs;
use super::program;
use super::server_args::RuntimeChoice;
use crate::report::{Events, Printer, Terminal, signals};

const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// One run of the program.
pub(crate) struct Session<'a> {
    pub(crate) layout: Layout,
    pub(crate) environment: Environment,
    pub(crate) printer: &'a Printer,
    pub(crate) verbose: u8,
    /// The configuration file that was given, an absolute path.
    pub(crate) config: Option<PathBuf>,
    /// The fault of a configuration that the command does not need.
    pub(crate) config_fault: Option<Failure>,
    pub(crate) args: Vec<OsString>,
    /// The record, once it was read.
    pub(crate) state: OnceCell<State>,
}

impl Session<'_> {
    /// Whether `--port=N` stands on the command line in just this form.
    pub(crate) fn is_named_by_port(&self, port: u16) -> bool {
        self.args.iter().any(|arg| *arg == *format!("--port={port}"))
    }

    /// The record of `install`, or the defaults without one.
    pub(crate) fn state(&self) -> Result<&State, Failure> {
        if let Some(state) = self.state.get() {
            return Ok(state);
        }
        let state = State::read(&self.layout.state_file())?.unwrap_or_default();
        Ok(self.state.get_or_init(|| state))
    }

    /// The catalog in `file`, relative to the current directory, or the built-in one.
    pub(crate) fn catalog(&self, file: Option<&PathBuf>) -> Result<Catalog, Failure> {
        Ok(match file {
            Some(file) => Catalog::read(&self.environment.current_dir().join(file))?,
            None => Catalog::built_in()?,
        })
    }

    /// The built-in models, with those of `file` in place of their namesakes.
    pub(crate) fn models(&self, file: Option<&PathBuf>) -> Result<Arc<Models>, Failure> {
        Ok(Arc::new(match file {
            Some(file) => Models::read(&self.environment.current_dir().join(file))?,
            None => Models::built_in()?,
        }))
    }

    /// This machine's target.
    pub(crate) fn target(&self) -> Result<Target, Failure> {
        Target::host().ok_or_else(|| {
            Failure::new(
                Kind::Unsupported,
                format!(
                    "gem-setup does not know the platform {}-{}",
                    std::env::consts::OS,
                    std::env::consts::ARCH
                ),
            )
        })
    }

    /// gem-setup's own executable, by the path that the user calls.
    pub(crate) fn program(&self) -> Result<PathBuf, Failure> {
        program::called(&self.args).map_err(|error| {
            Failure::new(
                Kind::Unexpected,
                format!("cannot find the path of gem-setup itself: {error}"),
            )
        })
    }

    /// Gets files as `network` says.
    pub(crate) fn fetcher(&self, network: &NetworkArgs) -> Result<Fetcher, Failure> {
        let ca_cert = network
            .ca_cert
            .as_ref()
            .map(|file| self.environment.current_dir().join(file));
        let settings = Network::from_environment(&self.environment, ca_cert)?;
        Ok(Fetcher::new(
            settings,
            self.layout.downloads(),
            network.mirror.clone(),
            network.mirror_only,
        )?)
    }

    /// This home on a machine of platform `target`, with the artifacts of `catalog`.
    pub(crate) fn site(&self, catalog: Option<&PathBuf>, target: Target) -> Result<Site<'_>, Failure> {
        Ok(Site {
            layout: self.layout.clone(),
            environment: &self.environment,
            program: self.program()?,
            config: self.config.clone(),
            globals: self.globals(target),
            target,
            catalog: self.catalog(catalog)?,
        })
    }

    /// The home as it is recorded.
    pub(crate) fn recorded_site(&self) -> Result<Site<'_>, Failure> {
        self.site(self.state()?.chosen.catalog.as_ref(), self.target()?)
    }

    /// The subject of the steps, with `state` as its record.
    pub(crate) fn setup<'s>(
        &'s self,
        state: State,
        wanted: Wanted,
        network: &NetworkArgs,
        target: Target,
        events: &'s Events<'s>,
        terminal: &'s Terminal<'s>,
    ) -> Result<Setup<'s>, Failure> {
        let chosen = &wanted.chosen;
        Ok(Setup {
            site: self.site(chosen.catalog.as_ref(), target)?,
            given: GivenFiles::read(chosen.catalog.iter().chain(&chosen.ca_cert)),
            wanted,
            state,
            tools: Tools {
                fetcher: self.fetcher(network)?,
                progress: events,
                ask: terminal,
            },
            listing: Listing::default(),
        })
    }

    /// The global options that name home and configuration file, as far as they stand on the command line.
    fn globals(&self, target: Target) -> String {
        let is_given = |name: &str| {
            self.args.iter().filter_map(|arg| arg.to_str()).any(|arg| {
                let rest = arg.strip_prefix(name);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
            })
        };
        let home = is_given("--home").then(|| ("--home", self.layout.home()));
        let config = self.config.as_deref().filter(|_| is_given("--config"));
        let given = home.into_iter().chain(config.map(|file| ("--config", file)));
        given
            .map(|(name, path)| format!(" {name} {}", shell::word(target.os, path.as_os_str())))
            .collect()
    }

    /// Gemini CLI's settings here.
    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        let places = Places::new(self.target()?.os, &self.environment, self.layout.home());
        Ok(settings::load(&places, &self.environment))
    }

    /// The environment as Gemini CLI completes it from its `.env` file.
    pub(crate) fn client_environment(&self) -> Result<Environment, Failure> {
        let env_file = EnvFile::read(&self.settings()?, &self.environment, self.layout.home());
        Ok(env_file.under(&self.environment))
    }

    /// The lock on the home; another holder gets some time to end.
    pub(crate) async fn lock(&self) -> Result<Lock, Failure> {
        let lock_file = self.layout.lock_file();
        let lock = Lock::acquire(&lock_file, LOCK_PATIENCE);
        Ok(waiting(&Events::remarks(self.printer), "lock", lock::WAIT, lock).await?)
    }

    /// As [`Self::block_on`], for commands that change the machine: a signal ends the work at its next pause, and the failure
    /// names the server that keeps running.
    pub(crate) fn block_on_until_signal<T>(
        &self,
        future: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        self.block_on(async {
            tokio::select! {
                // The signal reaches children too: their failure follows from the interruption.
                biased;
                signal = signals::first(self.printer) => Err(self.interrupted(signal)),
                done = future => done,
            }
        })
    }

    fn interrupted(&self, signal: &str) -> Failure {
        self.printer.bars().clear();
        let failure = Failure::new(signals::kind_of(signal), format!("interrupted by {signal}"));
        failure.with_hint(match supervise::observe(&self.layout) {
            Ok(Running::Supervised(server)) => format!(
                "the server keeps running (pid {}, port {}): `gem-setup status` shows its state, `gem-setup stop` ends it",
                server.process.pid, server.server.port
            ),
            _ => "run the command again to continue".to_owned(),
        })
    }

    /// Runs `future` on this thread, which is enough for everything but the server. A signal ends the program.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        signals::end_at_once(self.printer);
        let runtime = asynchronous()?;
        let done = runtime.block_on(future);
        // Threads that an interrupted command left at work are not waited for.
        runtime.shutdown_background();
        done
    }
}

/// An asynchronous runtime on this thread.
pub(crate) fn asynchronous() -> Result<Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| {
        let message = format!("cannot start the asynchronous runtime: {error}");
        Failure::new(Kind::Unexpected, message)
    })
}

/// The model named by `text`, the value of `place`.
pub(crate) fn model_name(place: &str, text: &str) -> Result<ModelName, Failure> {
    text.parse().map_err(|error| {
        Failure::new(Kind::Usage, format!("cannot use the value of `{place}`: {error}"))
            .with_hint(format!("correct `{place}`, or leave it out"))
    })
}

/// `network`, with the recorded mirrors and certificates where it names none.
pub(crate) fn or_recorded(mut network: NetworkArgs, state: &State) -> NetworkArgs {
    if network.mirror.is_empty() {
        network.mirror.clone_from(&state.chosen.mirrors);
        network.mirror_only |= state.chosen.mirror_only;
    }
    if network.ca_cert.is_none() {
        network.ca_cert.clone_from(&state.chosen.ca_cert);
    }
    network
}

/// The runtime meant by `choice`: `auto` takes `lit` where the catalog has a build of it for `target`, else `litert-lm` where
/// that is published, else the classifier that runs everywhere.
pub(crate) fn runtime_of(choice: RuntimeChoice, catalog: &Catalog, target: Target) -> RuntimeName {
    match choice {
        RuntimeChoice::Lit => RuntimeName::Lit,
        RuntimeChoice::LitertLm => RuntimeName::LitertLm,
        RuntimeChoice::Builtin => RuntimeName::Builtin,
        RuntimeChoice::Auto => {
            let is_published = catalog
                .runtime("lit")
                .is_some_and(|entry| entry.artifact(target).is_some());
            if is_published {
                RuntimeName::Lit
            } else if litert_lm::is_published(target) {
                RuntimeName::LitertLm
            } else {
                RuntimeName::Builtin
            }
        }
    }
}
