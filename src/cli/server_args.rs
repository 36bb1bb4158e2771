//! The options of a server and what each means for the gateway. A new option is added only here: the command line of a
//! detached server, the service definition and `restart` follow from this list.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::{Args, ValueEnum};
use gem_setup::error::Failure;
use gem_setup::gateway::{ClassifierPrompt, Config, OnClassifierFailure};
use gem_setup::router::Account;
use gem_setup::router::classify::builtin::Threshold;
use gem_setup::router::walk::{MAX_RETRY_WAIT, OnFallback};
use gem_setup::runtime::LocalModelName;
use url::Url;

use super::access_args::AccessArgs;
use super::values::{URL, certificates, existing_file, ip_address, one_of, port, probability, seconds};

/// The runtime that serves the local model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RuntimeChoice {
    /// Google's `lit` executable
    Lit,
    /// The successor of `lit`, from PyPI
    LitertLm,
    /// The classifier inside gem-setup: no download, no model
    Builtin,
    /// `lit` where it is published, else `litert-lm`, else `builtin`
    Auto,
}

/// The values of `--on-fallback`.
pub(crate) fn on_fallback() -> impl TypedValueParser<Value = OnFallback> {
    one_of([
        ("policy", OnFallback::Policy, "Follow the model's policy"),
        ("silent", OnFallback::Silent, "Switch without asking"),
        ("never", OnFallback::Never, "Never switch"),
        (
            "ask",
            OnFallback::Ask,
            "Ask at the terminal; without one, do not switch",
        ),
    ])
}

fn on_classifier_failure() -> impl TypedValueParser<Value = OnClassifierFailure> {
    one_of([
        (
            "builtin",
            OnClassifierFailure::Builtin,
            "The built-in classifier answers",
        ),
        ("error", OnClassifierFailure::Error, "The client gets an error"),
    ])
}

fn classifier_prompt() -> impl TypedValueParser<Value = ClassifierPrompt> {
    one_of([
        (
            "slim",
            ClassifierPrompt::Slim,
            "The request without the client's additions, such as a directory tree",
        ),
        ("as-sent", ClassifierPrompt::AsSent, "The whole request"),
    ])
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ServerArgs {
    /// The port to listen on [default: as installed]
    #[arg(long, value_name = "N", value_parser = port)]
    pub(crate) port: Option<u16>,
    /// The runtime that serves the model [default: as installed]
    #[arg(long, value_name = "RUNTIME")]
    pub(crate) runtime: Option<RuntimeChoice>,
    /// The local model [default: as installed]
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<LocalModelName>,
    /// Run no gateway: the runtime itself listens on the port
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub(crate) direct: Option<bool>,
    /// The server for requests to hosted models
    #[arg(
        long,
        value_name = "URL",
        default_value = "https://generativelanguage.googleapis.com",
        value_parser = URL
    )]
    pub(crate) upstream: Url,
    /// Listen on this address instead of both loopback addresses
    #[arg(long, value_name = "ADDR", value_delimiter = ',', value_parser = ip_address)]
    pub(crate) listen: Vec<IpAddr>,
    /// Allow addresses and host names other than loopback; needs tokens, and TLS or a proxy
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub(crate) allow_remote: Option<bool>,
    /// Answer classification requests within this time
    #[arg(long, value_name = "SECONDS", default_value = "8", value_parser = seconds)]
    pub(crate) classifier_deadline: f64,
    /// Who answers when the model's answer is late or unusable
    #[arg(long, value_name = "WHO", default_value = "builtin", value_parser = on_classifier_failure())]
    pub(crate) on_classifier_failure: OnClassifierFailure,
    /// The part of a classification request that is sent to the model
    #[arg(long, value_name = "PART", default_value = "slim", value_parser = classifier_prompt())]
    pub(crate) classifier_prompt: ClassifierPrompt,
    /// Skip the model when the built-in classifier is at least this sure (0.5 to 1) [default: off]
    #[arg(long, value_name = "PROBABILITY", value_parser = probability)]
    pub(crate) fast_path: Option<f64>,
    /// Choose the powerful model from this probability on (0 to 1), if the built-in classifier decides
    #[arg(long, value_name = "PROBABILITY", default_value_t, allow_negative_numbers = true)]
    pub(crate) threshold: Threshold,
    /// What to do when a hosted model fails
    #[arg(long, value_name = "HOW", default_value = "policy", value_parser = on_fallback())]
    pub(crate) on_fallback: OnFallback,
    /// Spend at most this time on one request's retry delays
    #[arg(long, value_name = "SECONDS", default_value_t = MAX_RETRY_WAIT.as_secs_f64(), value_parser = seconds)]
    pub(crate) max_retry_wait: f64,
    /// Replace parts of the built-in models.toml
    #[arg(long, value_name = "FILE", value_parser = existing_file())]
    pub(crate) models: Option<PathBuf>,
    /// Route as for this kind of account: login, api-key or no-preview
    #[arg(long, value_name = "KIND", default_value_t = Account::ApiKey)]
    pub(crate) account: Account,
    /// Write the text of requests to decisions.jsonl and the runtime's own output to the log
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub(crate) log_requests: Option<bool>,
    /// Trust this certificate authority too (PEM)
    #[arg(long, value_name = "FILE", value_parser = certificates())]
    pub(crate) ca_cert: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

impl ServerArgs {
    /// Sets the fields of `config` that depend only on the options.
    pub(crate) fn configure(&self, config: &mut Config) -> Result<(), Failure> {
        if !self.listen.is_empty() {
            config.listen.clone_from(&self.listen);
        }
        config.allow_remote = self.allow_remote == Some(true);
        config.classifier_deadline = self.classifier_deadline();
        config.on_classifier_failure = self.on_classifier_failure;
        config.classifier_prompt = self.classifier_prompt;
        config.fast_path = self.fast_path;
        config.threshold = self.threshold;
        config.log_requests = self.log_requests == Some(true);
        self.access.configure(config)
    }

    pub(crate) fn classifier_deadline(&self) -> Duration {
        Duration::from_secs_f64(self.classifier_deadline)
    }

    pub(crate) fn max_retry_wait(&self) -> Duration {
        Duration::from_secs_f64(self.max_retry_wait)
    }
}
