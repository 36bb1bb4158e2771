//! The command line as clap sees it, without any decisions.

use std::path::PathBuf;

use clap::builder::TypedValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use gem_platform::Target;
use gem_setup::router::classify::builtin::Threshold;
use gem_setup::router::walk::OnFallback;
use gem_setup::router::{Account, ClassifierChoice};
use gem_setup::runtime::LocalModelName;
use gem_setup::settings::Destination;

use super::access_args::TokenArgs;
pub(crate) use super::network_args::NetworkArgs;
use super::server_args::{RuntimeChoice, ServerArgs, on_fallback};
use super::upgrade_args::{CleanupArgs, NewsArgs, RollbackArgs, SignedArgs, UpgradeArgs};
use super::values::{
    KeyOrFile, count, existing_file, one_of, path, port, program, readable_file, readable_file_or_stdin, repetitions,
    seconds,
};

/// Sets up, supervises and serves local model routing for Gemini CLI.
#[derive(Debug, Parser)]
#[command(name = "gem-setup", version, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = "Every option can also come from GEM_SETUP_<OPTION> and from config.toml; see the README for exit statuses."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The directory that holds `.gemini` [default: $GEMINI_CLI_HOME, else your home]
    #[arg(long, global = true, value_name = "DIR", value_parser = path())]
    pub(crate) home: Option<PathBuf>,
    /// Print JSON, and only JSON, on standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print only results and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Print more; repeat for even more
    #[arg(short, long, global = true, action = clap::ArgAction::Count, value_parser = repetitions)]
    pub(crate) verbose: u8,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorChoice,
    /// The configuration file [default: .gemini/gem-setup/config.toml in the home]
    #[arg(long, global = true, value_name = "FILE", value_parser = path())]
    pub(crate) config: Option<PathBuf>,
}

/// When colour is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    Auto,
    Always,
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Set up this machine: runtime, companions, terms, model, settings, server, smoke test
    Install(InstallArgs),
    /// Find faults on this machine, with a fix for each
    Doctor(DoctorArgs),
    /// Supervise the runtime and run the gateway in the foreground
    Serve(ServeArgs),
    /// Start the server in the background and return once it is ready
    Start(ServeArgs),
    /// Stop the server
    Stop,
    /// Stop the server and start it again
    Restart(ServeArgs),
    /// Show whether the server is running
    ///
    /// The exit status is 0 if it is ready, else 7.
    Status(StatusArgs),
    /// Print the server's log
    Logs(LogsArgs),
    /// Pull a model, as `lit pull` does
    Pull(PullArgs),
    /// List the models that can be served, as `lit list` does
    List(ListArgs),
    /// Send a prompt and two routing probes, print the answers and their latency
    Smoke(SmokeArgs),
    /// Show which model a request goes to, and why
    Route(RouteArgs),
    /// Show, apply or remove the router's settings
    Settings(SettingsArgs),
    /// Make or check a bundle for machines without internet
    Bundle(BundleArgs),
    /// Run the server at login
    Service(ServiceArgs),
    /// Install a newer version, test it, then switch to it
    Upgrade(UpgradeArgs),
    /// Return to the previous version
    Rollback(RollbackArgs),
    /// List the installed versions, current and previous
    Versions,
    /// Delete old versions, partial downloads and surplus backups
    Cleanup(CleanupArgs),
    /// Make a token for a client of a gateway
    Token(TokenArgs),
    /// Undo `install`
    Uninstall(UninstallArgs),
    /// Print a completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages
    Man {
        /// The directory for them; it must exist
        #[arg(value_name = "DIR", value_parser = path())]
        directory: PathBuf,
    },
    /// Print the version
    Version,
}

/// The values of `--scope`.
fn scope() -> impl TypedValueParser<Value = Destination> {
    one_of([
        ("user", Destination::User, "The settings file in the home"),
        (
            "workspace",
            Destination::Workspace,
            "The settings file in the current directory",
        ),
        (
            "system",
            Destination::System,
            "The machine's settings file, for all users; needs root",
        ),
    ])
}

/// The installation that a command works on.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct ScopeArgs {
    /// The installation; `system` is the one for all users of this machine [default: the home's]
    #[arg(long, value_name = "SCOPE", value_parser = scope())]
    pub(crate) scope: Option<Destination>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct SmokeArgs {
    /// Print the request for curl and PowerShell instead of sending it
    #[arg(long)]
    pub(crate) print_command: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct InstallArgs {
    /// The runtime that serves the model [default: as installed, else auto]
    #[arg(long, value_name = "RUNTIME")]
    pub(crate) runtime: Option<RuntimeChoice>,
    /// Import this `.litertlm` file instead of downloading a model (runtime litert-lm)
    #[arg(long, value_name = "FILE", value_parser = existing_file())]
    pub(crate) model_file: Option<PathBuf>,
    /// The port that Gemini CLI talks to [default: as installed, else 9379]
    #[arg(long, value_name = "N", value_parser = port)]
    pub(crate) port: Option<u16>,
    /// The local model [default: as installed, else gemma3-1b-gpu-custom]
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<LocalModelName>,
    /// Accept the model's terms
    #[arg(long, alias = "consent")]
    pub(crate) accept_terms: bool,
    /// The settings file to change [default: as installed, else user]
    #[arg(long, value_name = "SCOPE", value_parser = scope())]
    pub(crate) scope: Option<Destination>,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// Use this catalog of artifacts [default: as installed, else the built-in one]
    #[arg(long, value_name = "FILE", value_parser = existing_file(), conflicts_with = "catalog_url")]
    pub(crate) catalog: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) signed: SignedArgs,
    /// Install from this bundle only; download nothing
    #[arg(long, value_name = "DIR|FILE", value_parser = path(), conflicts_with_all = ["catalog", "catalog_url", "mirror", "mirror_only"])]
    pub(crate) bundle: Option<PathBuf>,
    /// Refuse a bundle without a valid signature of this minisign key (or a file that contains it)
    #[arg(long, value_name = "KEY", requires = "bundle")]
    pub(crate) public_key: Option<KeyOrFile>,
    /// Repeat every step, even one that is in place
    #[arg(long)]
    pub(crate) force: bool,
    /// Do not install the model
    #[arg(long)]
    pub(crate) no_model: bool,
    /// Do not change the settings
    #[arg(long)]
    pub(crate) no_settings: bool,
    /// Do not start the server
    #[arg(long)]
    pub(crate) no_start: bool,
    /// Do not run the smoke test
    #[arg(long)]
    pub(crate) no_smoke: bool,
    /// Print the plan, change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Plan for another platform, such as windows-x86_64 (with --dry-run)
    #[arg(long, value_name = "OS-ARCH", requires = "dry_run")]
    pub(crate) target: Option<Target>,
    /// Run no gateway: the runtime itself listens on the port
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub(crate) direct: Option<bool>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Fix what failed
    #[arg(long)]
    pub(crate) fix: bool,
    /// Send the routing probes too
    #[arg(long)]
    pub(crate) smoke: bool,
    /// Contact the download hosts too
    #[arg(long)]
    pub(crate) network: bool,
    /// Hash the runtime in full, even if its size and time match the record
    #[arg(long)]
    pub(crate) verify: bool,
    /// Accept the model's terms (with --fix)
    #[arg(long, alias = "consent")]
    pub(crate) accept_terms: bool,
    #[command(flatten)]
    pub(crate) network_args: NetworkArgs,
    #[command(flatten)]
    pub(crate) news: NewsArgs,
    #[command(flatten)]
    pub(crate) scope: ScopeArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Return once the server is ready
    #[arg(long)]
    pub(crate) detach: bool,
    /// Serve in this process, even if the environment or the configuration says `detach`
    #[arg(long, hide = true)]
    pub(crate) foreground: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct StatusArgs {
    /// Wait until the server is ready, at most this long
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) wait: Option<f64>,
    #[command(flatten)]
    pub(crate) news: NewsArgs,
    #[command(flatten)]
    pub(crate) scope: ScopeArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct LogsArgs {
    /// The number of lines
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50, value_parser = count)]
    pub(crate) lines: usize,
    /// Keep printing new lines
    #[arg(short, long)]
    pub(crate) follow: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct PullArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    pub(crate) name: LocalModelName,
    /// Accept the model's terms
    #[arg(long, alias = "consent")]
    pub(crate) accept_terms: bool,
    /// Pull the model even if it is already there
    #[arg(long)]
    pub(crate) force: bool,
    /// Import this `.litertlm` file instead of downloading (runtime litert-lm)
    #[arg(long, value_name = "FILE", value_parser = existing_file())]
    pub(crate) model_file: Option<PathBuf>,
    /// The runtime [default: as installed]
    #[arg(long, value_name = "RUNTIME")]
    pub(crate) runtime: Option<RuntimeChoice>,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ListArgs {
    /// List all models of the registry, not only the pulled ones
    #[arg(long, alias = "show_all")]
    pub(crate) show_all: bool,
}

/// The values of `--classifier`.
fn classifier() -> impl TypedValueParser<Value = ClassifierChoice> {
    one_of([
        ("model", ClassifierChoice::Model, "The local model"),
        ("builtin", ClassifierChoice::Builtin, "The built-in classifier"),
    ])
}

#[derive(Clone, Debug, Args)]
pub(crate) struct RouteArgs {
    /// The request; `-` or nothing reads standard input
    #[arg(value_name = "TEXT")]
    pub(crate) text: Vec<String>,
    /// Earlier turns, a JSON array of {"role","text"} or of Gemini contents
    #[arg(long, value_name = "FILE", value_parser = readable_file())]
    pub(crate) history: Option<PathBuf>,
    /// The requested model, as with Gemini CLI's --model
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// Route as in plan mode
    #[arg(long)]
    pub(crate) plan: bool,
    /// Route as when this approved plan is being implemented
    #[arg(long, value_name = "PATH", value_parser = readable_file(), conflicts_with = "plan")]
    pub(crate) approved_plan: Option<PathBuf>,
    /// Show every strategy and its outcome
    #[arg(long)]
    pub(crate) explain: bool,
    /// Route each row of this JSON-lines file (-: standard input), print one JSON line each
    #[arg(long, value_name = "FILE", value_parser = readable_file_or_stdin(), conflicts_with_all = ["text", "history", "explain"])]
    pub(crate) batch: Option<PathBuf>,
    /// The classifier [default: the local model when enabled, else the built-in classifier]
    #[arg(long, value_name = "WHO", value_parser = classifier())]
    pub(crate) classifier: Option<ClassifierChoice>,
    /// Choose the powerful model from this probability on (0 to 1), if the built-in classifier decides
    #[arg(long, value_name = "PROBABILITY", default_value_t, allow_negative_numbers = true)]
    pub(crate) threshold: Threshold,
    /// Replace parts of the built-in models.toml
    #[arg(long, value_name = "FILE", value_parser = existing_file())]
    pub(crate) models: Option<PathBuf>,
    /// What to do when the server knows that a hosted model failed
    #[arg(long, value_name = "HOW", default_value = "policy", value_parser = on_fallback())]
    pub(crate) on_fallback: OnFallback,
    /// Route as for this kind of account: login, api-key or no-preview [default: from Gemini CLI's login]
    #[arg(long, value_name = "KIND")]
    pub(crate) account: Option<Account>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct SettingsArgs {
    #[command(subcommand)]
    pub(crate) action: SettingsAction,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum SettingsAction {
    /// Show each key's value and where it comes from
    Show,
    /// Write the router's settings
    Apply {
        /// The settings file [default: as installed, else user]
        #[arg(long, value_name = "SCOPE", value_parser = scope())]
        scope: Option<Destination>,
        /// The port of the local server [default: as installed]
        #[arg(long, value_name = "N", value_parser = port)]
        port: Option<u16>,
        /// The local model [default: as installed]
        #[arg(long, value_name = "NAME")]
        model: Option<LocalModelName>,
    },
    /// Remove the router's settings
    Remove {
        /// The settings file [default: as installed, else user]
        #[arg(long, value_name = "SCOPE", value_parser = scope())]
        scope: Option<Destination>,
    },
}

#[derive(Clone, Debug, Args)]
pub(crate) struct BundleArgs {
    #[command(subcommand)]
    pub(crate) action: BundleAction,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum BundleAction {
    /// Put everything that an offline machine needs into a directory or a tar file
    Create(Box<BundleCreateArgs>),
    /// Check a bundle's files against its checksums, and its signature
    Verify {
        /// The bundle
        #[arg(value_name = "DIR|FILE", value_parser = path())]
        bundle: PathBuf,
        /// Require a valid signature of this minisign key (or a file that contains it)
        #[arg(long, value_name = "KEY")]
        public_key: Option<KeyOrFile>,
    },
}

#[derive(Clone, Debug, Args)]
pub(crate) struct BundleCreateArgs {
    /// The directory to make, or the file if the name ends in `.tar`
    #[arg(value_name = "DIR|FILE.tar", value_parser = path())]
    pub(crate) bundle: PathBuf,
    /// The platforms, repeatable [default: this one]
    #[arg(long, value_name = "OS-ARCH", value_delimiter = ',')]
    pub(crate) target: Vec<Target>,
    /// The runtime [default: as installed, else auto]
    #[arg(long, value_name = "RUNTIME")]
    pub(crate) runtime: Option<RuntimeChoice>,
    /// gem-setup's executable for one of the platforms, repeatable [default: this one, else the catalog's]
    #[arg(long, value_name = "OS-ARCH=FILE", value_parser = program)]
    pub(crate) program: Vec<(Target, PathBuf)>,
    /// Include the model: the downloaded one for litert-lm, the pulled one for lit
    #[arg(long)]
    pub(crate) model: bool,
    /// Include this `.litertlm` file as the model (runtime litert-lm)
    #[arg(long, value_name = "FILE", value_parser = existing_file())]
    pub(crate) model_file: Option<PathBuf>,
    /// Accept the model's terms
    #[arg(long, alias = "consent")]
    pub(crate) accept_terms: bool,
    /// Sign the checksums with this minisign secret key
    #[arg(long, value_name = "FILE", value_parser = existing_file())]
    pub(crate) sign: Option<PathBuf>,
    /// Use this catalog of artifacts instead of the built-in one
    #[arg(long, value_name = "FILE", value_parser = existing_file())]
    pub(crate) catalog: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ServiceArgs {
    #[command(subcommand)]
    pub(crate) action: ServiceAction,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ServiceAction {
    /// Run the server at every login, starting now
    Install(Box<ServerArgs>),
    /// Stop running the server at login
    Uninstall,
    /// Show whether the server runs at login
    Status,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct UninstallArgs {
    /// Remove model, state and logs too
    #[arg(long)]
    pub(crate) purge: bool,
    /// Print the plan, change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask before `--purge` deletes
    #[arg(short, long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) scope: ScopeArgs,
}
