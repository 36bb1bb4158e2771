//! The context of a command: paths, environment, output and the record.

use std::cell::OnceCell;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gem_platform::Target;
use gem_platform::process::{check_view, start_remedy};
use gem_setup::catalog::Catalog;
use gem_setup::environment::Environment;
use gem_setup::error::{Failure, Kind};
use gem_setup::fetch::{Fetcher, Hub};
use gem_setup::layout::Layout;
use gem_setup::lock::{Holder, Lock};
use gem_setup::net::{CERTIFICATES, Network, check_certificate_directories, check_certificates, redact_in};
use gem_setup::record::is_there;
use gem_setup::router::{Account, ModelName, Models};
use gem_setup::runtime::RuntimeName;
use gem_setup::settings::{self, Destination, EnvFile, Places, Settings};
use gem_setup::setup::{self, Chosen, GivenFiles, Listing, Setup, Site, State, Tools, Wanted, offered};
use gem_setup::shell;
use gem_setup::supervise::{self, MOUNT_PROC, Running};
use gem_setup::threads;

use tokio::runtime::Runtime;

use super::args::NetworkArgs;
use super::parse::default_home;
use super::program;
use super::server_args::RuntimeChoice;
use crate::report::{Events, Printer, Terminal, signals};

/// The variable with the directories that replace the system's trust store.
const DIRECTORIES: &str = "SSL_CERT_DIR";
/// How long a signal to the whole process group may take to reach this process.
const SIGNAL_PATIENCE: Duration = Duration::from_millis(500);

/// One run of the program.
pub(crate) struct Session<'a> {
    pub(crate) layout: Layout,
    pub(crate) environment: Environment,
    pub(crate) printer: &'a Printer,
    pub(crate) verbose: u8,
    /// The absolute path of the configuration file, if one was given.
    pub(crate) config: Option<PathBuf>,
    /// A fault of the configuration, for a command that works without it.
    pub(crate) config_fault: Option<Failure>,
    pub(crate) args: Vec<OsString>,
    /// The port that a variable or the configuration file gives; it counts before the recorded one.
    pub(crate) port: Option<u16>,
    /// The record, once it has been read.
    pub(crate) state: OnceCell<State>,
}

/// The home's lock, with the record that counts while it is held: [`Session::state`] may be older.
pub(crate) struct Locked {
    pub(crate) lock: Lock,
    pub(crate) record: Result<State, Failure>,
}

impl Session<'_> {
    /// Whether the command line contains the word `--port=N`.
    pub(crate) fn is_named_by_port(&self, port: u16) -> bool {
        self.args.iter().any(|arg| *arg == *format!("--port={port}"))
    }

    /// The record of `install`. If there is none, the defaults with the runtime that `auto` selects.
    pub(crate) fn state(&self) -> Result<&State, Failure> {
        if let Some(state) = self.state.get() {
            return Ok(state);
        }
        let state = self.state_now()?;
        Ok(self.state.get_or_init(|| state))
    }

    /// The choices that count for a command without options: those of [`Self::state`], with the port of the variable or
    /// the configuration file.
    pub(crate) fn chosen(&self) -> Result<Chosen, Failure> {
        let chosen = self.state()?.chosen.clone();
        Ok(self.configured(chosen))
    }

    /// `chosen` with the port of the variable or the configuration file.
    pub(crate) fn configured(&self, chosen: Chosen) -> Chosen {
        Chosen {
            port: self.port.unwrap_or(chosen.port),
            ..chosen
        }
    }

    /// Like [`Self::state`], after this command or another one may have changed the record.
    pub(crate) fn state_now(&self) -> Result<State, Failure> {
        if let Some(state) = State::read(&self.layout.state_file())? {
            return Ok(state);
        }
        let mut state = State::default();
        if let Some(target) = Target::host() {
            state.chosen.runtime = offered(&Catalog::built_in()?, target).runtime;
        }
        Ok(state)
    }

    /// The record for a command that can do without: if it cannot be read, a warning says so, and the defaults count.
    pub(crate) fn state_if_readable(&self) -> &State {
        self.state().unwrap_or_else(|failure| {
            self.warn_of(&failure, "the defaults are used");
            self.state.get_or_init(State::default)
        })
    }

    /// Warns of `failure`, which does not stop this command, and says what is done instead.
    pub(crate) fn warn_of(&self, failure: &Failure, instead: &str) {
        let hint = failure
            .hint
            .as_ref()
            .map_or_else(String::new, |hint| format!("; {hint}"));
        self.printer.warning(&format!("{}; {instead}{hint}", failure.message));
    }

    /// Whether `install` has recorded anything in this home. A damaged record counts as one.
    pub(crate) fn is_installed(&self) -> bool {
        is_there(&self.layout.state_file()) && !self.state().is_ok_and(State::is_of_settings_alone)
    }

    /// Whether the record names a bundle.
    pub(crate) fn has_bundle(&self) -> bool {
        self.state().is_ok_and(|state| state.chosen.bundle.is_some())
    }

    /// Like [`Self::is_installed`], after this command may have changed the record.
    pub(crate) fn is_installed_now(&self) -> bool {
        let file = self.layout.state_file();
        let is_of_settings_alone = || matches!(State::read(&file), Ok(Some(state)) if state.is_of_settings_alone());
        is_there(&file) && !is_of_settings_alone()
    }

    /// The command that installs in this home.
    pub(crate) fn install_command(&self) -> Result<String, Failure> {
        Ok(format!("gem-setup install{}", self.install_options(self.target()?)))
    }

    /// Another gem-setup that works on this home.
    pub(crate) fn other(&self) -> Option<Holder> {
        Holder::of(&self.layout.lock_file())
    }

    /// That nothing is installed, and what to do.
    pub(crate) fn not_installed(&self) -> Result<String, Failure> {
        Ok(match self.other() {
            Some(other) => format!("not installed yet: {other}"),
            None => format!("not installed: run `{}`", self.install_command()?),
        })
    }

    /// `failure`, or "not installed" if nothing is installed and the failure is a consequence of that.
    pub(crate) fn or_not_installed(&self, purpose: &str, failure: Failure) -> Failure {
        match self.install_command() {
            Ok(command) if !self.is_installed() && failure.kind == Kind::Runtime => {
                let message = format!("cannot {purpose}: gem-setup is not installed in this home");
                match self.other() {
                    Some(other) => Failure::new(Kind::Runtime, format!("{message}; {other}")).with_hint(other.remedy()),
                    None => Failure::new(Kind::Runtime, message).with_hint(format!("run `{command}`")),
                }
            }
            _ => failure,
        }
    }

    /// The catalog in `file` (relative to the current directory), or the built-in one.
    pub(crate) fn catalog(&self, file: Option<&PathBuf>) -> Result<Catalog, Failure> {
        let Some(file) = file else {
            return Ok(Catalog::built_in()?);
        };
        let file = self.environment.current_dir().join(file);
        Catalog::read(&file).map_err(|error| {
            let in_use = self.state().ok();
            let in_use = in_use.filter(|state| state.chosen.catalog.as_ref() == Some(&file));
            self.with_way_back(error.into(), in_use)
        })
    }

    /// The failure to read the catalog that `state` names, with the command that restores it.
    fn with_way_back(&self, failure: Failure, state: Option<&State>) -> Failure {
        match state.and_then(|state| setup::way_back(&self.layout, state)) {
            Some(command) => failure.with_hint(format!("run `gem-setup {command}`")),
            None => failure,
        }
    }

    /// The models for `account`: those of `file`, or else of a delivered catalog, override the built-in ones of the
    /// same name.
    pub(crate) fn models(&self, file: Option<&PathBuf>, account: Account) -> Result<Arc<Models>, Failure> {
        let models = match file {
            Some(file) => Models::read(&self.environment.current_dir().join(file))?,
            None => self.delivered_models()?,
        };
        Ok(Arc::new(models.for_account(account)))
    }

    /// Completes a model swap that was interrupted by a kill and may have left no model. Skipped while another command
    /// holds the lock, since that command does it itself.
    pub(crate) fn settle_swap(&self) {
        if self.state().is_ok_and(|state| state.model_swap.is_some()) {
            let _ = self.block_on(setup::settle_swap(&self.layout));
        }
    }

    /// The models from a delivered catalog, else the built-in ones.
    fn delivered_models(&self) -> Result<Models, Failure> {
        Models::delivered_in(&self.layout.hosted_models_file()).or_else(|error| {
            let failure = Failure::from(error);
            let hint = failure.hint.map_or_else(String::new, |hint| format!("; {hint}"));
            let warning = format!("{}; the built-in models are used{hint}", failure.message);
            // A server's warnings must reach its log, which standard error does not.
            tracing::warn!("{warning}");
            self.printer.warning(&warning);
            Ok(Models::built_in()?)
        })
    }

    /// This machine's target.
    pub(crate) fn target(&self) -> Result<Target, Failure> {
        use std::env::consts::{ARCH, OS};

        let unknown = || format!("gem-setup does not know the platform {OS}-{ARCH}");
        Target::host().ok_or_else(|| Failure::new(Kind::Unsupported, unknown()))
    }

    /// gem-setup's own executable: the path that the user called, or the copy in the home.
    pub(crate) fn program(&self) -> Result<PathBuf, Failure> {
        let called = program::called(&self.args);
        let lasting = called.map(|running| setup::lasting_program(&self.layout, running));
        lasting.map_err(|error| {
            let failure = Failure::cannot("find the path of gem-setup itself", error);
            match check_view() {
                Ok(()) => failure,
                Err(_) => failure.with_hint(MOUNT_PROC),
            }
        })
    }

    /// The network options combined with the environment.
    pub(crate) fn network(&self, network: &NetworkArgs) -> Result<Network, Failure> {
        let ca_cert = network.ca_cert.as_ref();
        let ca_cert = ca_cert.map(|file| self.environment.current_dir().join(file));
        Ok(Network::from_environment(&self.environment, ca_cert)?)
    }

    /// The variables may be set for all programs and name files that are gone; otherwise only a download would show
    /// that.
    fn warn_of_certificates(&self) {
        let absolute = |file: &str| self.environment.current_dir().join(file);
        let check = |variable: &str, value: &str| match variable {
            CERTIFICATES => check_certificates(&absolute(value)),
            DIRECTORIES => check_certificate_directories(value),
            _ => absolute(value).metadata().map(drop).map_err(|error| error.to_string()),
        };
        // A file makes the directories irrelevant for gem-setup itself.
        let has_file = self.environment.var(CERTIFICATES).is_some();
        let variables = [CERTIFICATES, DIRECTORIES, "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"].into_iter();
        for variable in variables.filter(|variable| *variable != DIRECTORIES || !has_file) {
            let value = self.environment.var(variable);
            if let Some((value, reason)) = value.and_then(|value| Some((value, check(variable, value).err()?))) {
                let value = redact_in(value);
                self.printer.warning(&format!(
                    "cannot use the certificates in `{value}`, which {variable} names: {reason}; correct or unset the variable, or \
                     downloads will fail"
                ));
            }
        }
    }

    /// Whether the server's step says that the certificates cannot be used.
    fn is_server_started(&self, wanted: &Wanted) -> bool {
        let is_gateway = !wanted.chosen.direct && wanted.chosen.scope != Destination::System;
        let is_running = || matches!(supervise::observe(&self.layout), Ok(Running::Supervised(_)));
        wanted.with_server && is_gateway && !is_running()
    }

    /// A downloader that uses `network`.
    pub(crate) fn fetcher(&self, network: &NetworkArgs) -> Result<Fetcher, Failure> {
        self.warn_of_certificates();
        self.silent_fetcher(network)
    }

    fn silent_fetcher(&self, network: &NetworkArgs) -> Result<Fetcher, Failure> {
        let (mirrors, downloads) = (network.mirror.clone(), self.layout.downloads());
        let fetcher = Fetcher::new(
            self.network(network)?,
            downloads,
            mirrors,
            network.mirror_only == Some(true),
        )?;
        Ok(fetcher.with_hub(Hub::from_environment(&self.environment)?))
    }

    /// The catalog of the installed runtime, or the one that `chosen` names.
    fn catalog_of(&self, chosen: &Chosen, state: &State, target: Target) -> Result<Catalog, Failure> {
        if chosen.catalog == state.chosen.catalog && chosen.runtime == state.chosen.runtime {
            return setup::recorded_catalog(&self.layout, state, target)
                .map_err(|error| self.with_way_back(error.into(), Some(state)));
        }
        self.catalog(chosen.catalog.as_ref())
    }

    /// The site of this home with the record `state`, on a machine of platform `target`, for the release of `chosen`.
    fn site(&self, chosen: &Chosen, state: &State, target: Target) -> Result<Site<'_>, Failure> {
        let mut site = Site {
            layout: self.layout.clone(),
            environment: &self.environment,
            program: self.program()?,
            config: self.config.clone(),
            globals: self.globals(target).iter().map(|option| format!(" {option}")).collect(),
            given: Vec::new(),
            target,
            catalog: self.catalog_of(chosen, state, target)?,
            directory: None,
            workspace: None,
        };
        site.place_release(chosen.runtime, state);
        Ok(site)
    }

    /// The site that the record describes.
    pub(crate) fn recorded_site(&self) -> Result<Site<'_>, Failure> {
        let state = self.state()?;
        self.site(&state.chosen, state, self.target()?)
    }

    /// The record's choices for a command that can use any catalog: the recorded catalog may have been deleted with its
    /// release.
    pub(crate) fn chosen_to_read(&self) -> Result<Chosen, Failure> {
        let mut chosen = self.chosen()?;
        if chosen.catalog.as_ref().is_some_and(|file| !file.exists()) {
            chosen.catalog = Some(self.layout.catalog_file()).filter(|file| file.exists());
        }
        Ok(chosen)
    }

    /// The site for such a command.
    pub(crate) fn site_to_read(&self) -> Result<Site<'_>, Failure> {
        self.site(&self.chosen_to_read()?, self.state()?, self.target()?)
    }

    /// The [`Setup`] of this home with `state` as its record.
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
        if !self.is_server_started(&wanted) {
            self.warn_of_certificates();
        }
        Ok(Setup {
            site: self.site(chosen, &state, target)?,
            given: GivenFiles::read(chosen.catalog.iter().chain(&chosen.ca_cert)),
            wanted,
            state,
            tools: Tools {
                fetcher: self.silent_fetcher(network)?,
                progress: events,
                ask: terminal,
            },
            listing: Listing::default(),
            bundle_fault: None,
            server_fault: None,
        })
    }

    /// The options to pass to `install` for this home.
    pub(crate) fn install_options(&self, target: Target) -> String {
        if self.layout.is_of_system() {
            " --scope system".to_owned()
        } else {
            self.globals(target).iter().map(|option| format!(" {option}")).collect()
        }
    }

    /// Whether the command line contains the option `name`.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.args.iter().filter_map(|arg| arg.to_str()).any(|arg| {
            let rest = arg.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        })
    }

    /// The global options on the command line that name home and configuration file.
    pub(crate) fn globals(&self, target: Target) -> Vec<String> {
        // `serve` starts itself again with options of its own.
        let is_own = self.args.iter().any(|arg| arg == setup::FOREGROUND)
            && self.layout.home() == default_home(&self.environment);
        let is_named = (self.is_given("--home") && !is_own) || self.layout.is_of_system();
        let home = is_named.then(|| ("--home", self.layout.home()));
        let config = self
            .config
            .as_deref()
            .filter(|file| self.is_given("--config") && file.exists());
        let given = home.into_iter().chain(config.map(|file| ("--config", file)));
        given
            .map(|(name, path)| format!("{name} {}", shell::word(target.os, path.as_os_str())))
            .collect()
    }

    /// Refuses the settings of the current directory if that has been deleted, or if the record `state` means another one
    /// and no scope is `given`.
    pub(crate) fn check_scope(
        &self,
        state: &State,
        given: Option<Destination>,
        scope: Destination,
    ) -> Result<(), Failure> {
        if scope != Destination::Workspace {
            return Ok(());
        }
        if !self.environment.current_dir().as_os_str().is_empty() {
            return given.map_or_else(|| self.check_workspace(state), |_| Ok(()));
        }
        let message = "cannot use the settings of the current directory: the directory has been deleted";
        Err(Failure::new(Kind::Usage, message).with_hint("change to another directory, or pass `--scope user`"))
    }

    fn check_workspace(&self, state: &State) -> Result<(), Failure> {
        let Some(recorded) = state.workspace_elsewhere(self.environment.current_dir()) else {
            return Ok(());
        };
        let (directory, is_gone) = (recorded.display(), !recorded.is_dir());
        let message =
            format!("cannot use the settings of this directory: the recorded scope `workspace` means `{directory}`");
        let first = match is_gone {
            true => "pass `--scope workspace` to use this directory instead of that one, which is gone".to_owned(),
            false => format!("run the command in `{directory}`"),
        };
        let hint = format!("{first}, or pass `--scope user`");
        Err(Failure::new(Kind::Usage, message).with_hint(hint))
    }

    /// The paths of Gemini CLI's settings files.
    pub(crate) fn places(&self) -> Result<Places, Failure> {
        Ok(Places::new(self.target()?.os, &self.environment, self.layout.home()))
    }

    /// Gemini CLI's settings here.
    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        Ok(settings::load(&self.places()?, &self.environment))
    }

    /// The environment as Gemini CLI sees it: completed from its `.env` file.
    pub(crate) fn client_environment(&self) -> Result<Environment, Failure> {
        let env_file = EnvFile::read(&self.settings()?, &self.environment, self.layout.home());
        if let Some(fault) = env_file.fault() {
            let warning = format!("cannot read the variables for Gemini CLI in {fault}; it is ignored here");
            self.printer.warning(&warning);
        }
        Ok(env_file.under(&self.environment))
    }

    /// What becomes of `environment` in the server, which completes it from Gemini CLI's `.env` file.
    pub(crate) fn client_environment_of(&self, environment: &Environment) -> Result<Environment, Failure> {
        let env_file = EnvFile::read(&self.settings()?, environment, self.layout.home());
        Ok(env_file.under(environment))
    }

    /// Takes the lock on the home; waits a limited time for another holder.
    pub(crate) async fn lock(&self) -> Result<Locked, Failure> {
        let lock = setup::lock_home(&self.layout, "lock", &Events::remarks(self.printer)).await?;
        let record = self.state_now();
        Ok(Locked { lock, record })
    }

    /// Like [`Self::block_on`], for commands that change the machine: a signal ends the work at its next await point,
    /// and the failure mentions a server that keeps running.
    pub(crate) fn block_on_until_signal<T>(
        &self,
        future: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        self.block_on(async {
            tokio::select! {
                // The signal reaches children too; their failure is only a consequence.
                biased;
                signal = signals::first(self.printer) => Err(self.interrupted(signal)),
                done = future => match done {
                    Err(failure) if failure.message.contains("signal: ") => {
                        // A child that a signal ended may be noticed before the same signal to this process is.
                        let signal = tokio::time::timeout(SIGNAL_PATIENCE, signals::first(self.printer)).await;
                        Err(signal.map_or(failure, |signal| self.interrupted(signal)))
                    }
                    done => done,
                },
            }
        })
    }

    /// Like [`Self::block_on_until_signal`], for work that needs threads, such as downloads. A lack of threads is found
    /// before the work begins.
    pub(crate) fn work_until_signal<T>(&self, future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        threads::check().map_err(|error| without_thread("start a thread", &error))?;
        self.block_on_until_signal(future)
    }

    fn interrupted(&self, signal: &str) -> Failure {
        self.printer.bars().clear();
        let failure = Failure::new(signals::kind_of(signal), format!("interrupted by {signal}"));
        failure.with_hint(match supervise::observe(&self.layout) {
            Ok(Running::Supervised(server)) if server.stopping => format!(
                "the server (pid {}) is stopping; `gem-setup stop` waits until it has ended",
                server.process.pid
            ),
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
        // Commands that only read or stop need no second thread, so they work even if the system allows none.
        let runtime = threads::event_loop().or_else(|_| threads::bare_event_loop());
        let runtime = runtime.map_err(|error| without_thread(EVENT_LOOP, &error))?;
        let done = runtime.block_on(future);
        // Threads of an interrupted command are not waited for.
        runtime.shutdown_background();
        done
    }
}

const EVENT_LOOP: &str = "start the asynchronous runtime";

/// An asynchronous runtime on this thread.
pub(crate) fn asynchronous() -> Result<Runtime, Failure> {
    threads::event_loop().map_err(|error| without_thread(EVENT_LOOP, &error))
}

/// The failure of `action` if the system allows no further thread.
pub(crate) fn without_thread(action: &str, error: &std::io::Error) -> Failure {
    let failure = Failure::cannot(action, error);
    match start_remedy(error) {
        Some(remedy) => failure.with_hint(remedy),
        None => failure,
    }
}

/// Parses `text`, the value of `place`, as a model name.
pub(crate) fn model_name(place: &str, text: &str) -> Result<ModelName, Failure> {
    text.parse().map_err(|error| {
        Failure::new(Kind::Usage, format!("cannot use the value of `{place}`: {error}"))
            .with_hint(format!("correct `{place}`, or leave it out"))
    })
}

/// `network`, completed with the recorded mirrors and certificates.
pub(crate) fn or_recorded(mut network: NetworkArgs, state: &State) -> NetworkArgs {
    if network.mirror.is_empty() {
        network.mirror.clone_from(&state.chosen.mirrors);
        // Another source would have other files than the bundle.
        let given = network.mirror_only.filter(|_| state.chosen.bundle.is_none());
        network.mirror_only = given.or(Some(state.chosen.mirror_only));
    }
    if network.ca_cert.is_none() {
        network.ca_cert.clone_from(&state.chosen.ca_cert);
    }
    network
}

/// The runtime of `catalog` that `choice` selects on `target`.
pub(crate) fn runtime_of(choice: RuntimeChoice, catalog: &Catalog, target: Target) -> RuntimeName {
    match choice {
        RuntimeChoice::Lit => RuntimeName::Lit,
        RuntimeChoice::LitertLm => RuntimeName::LitertLm,
        RuntimeChoice::Builtin => RuntimeName::Builtin,
        RuntimeChoice::Auto => offered(catalog, target).runtime,
    }
}
