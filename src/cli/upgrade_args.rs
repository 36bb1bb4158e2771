//! The command line of the life after the installation: `upgrade`, `rollback`, `versions`, `cleanup`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use gem_setup::catalog::CatalogKey;
use url::Url;

use super::network_args::NetworkArgs;
use super::values::{URL, existing_file};

/// The sources of newer versions.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct SignedArgs {
    /// The address of a signed catalog; its signature ends in `.minisig`
    #[arg(long, value_name = "URL", value_parser = URL)]
    pub(crate) catalog_url: Option<Url>,
    /// The minisign public key that must have signed it [default: the one that gem-setup was built with]
    #[arg(long, value_name = "KEY")]
    pub(crate) catalog_key: Option<CatalogKey>,
}

/// The notice of newer versions.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct NewsArgs {
    #[command(flatten)]
    pub(crate) signed: SignedArgs,
    /// Look for upgrades in the signed catalog once a day, in the background
    #[arg(long)]
    pub(crate) update_check: bool,
}

#[derive(Clone, Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own (docs/contract.md section 1)"
)]
pub(crate) struct UpgradeArgs {
    /// Show what can be upgraded, change nothing
    #[arg(long)]
    pub(crate) check: bool,
    /// Upgrade the runtime to this version, which the catalog must have
    #[arg(long, value_name = "VERSION", conflicts_with = "own")]
    pub(crate) to: Option<String>,
    /// Upgrade the runtime [default]
    #[arg(long)]
    pub(crate) runtime: bool,
    /// Upgrade the model (runtime litert-lm)
    #[arg(long)]
    pub(crate) model: bool,
    /// Upgrade the names and chains of the hosted models [default, if the catalog has newer ones]
    #[arg(long)]
    pub(crate) hosted_models: bool,
    /// Take an older version than the one in use
    #[arg(long)]
    pub(crate) allow_older: bool,
    /// Accept the model's terms
    #[arg(long, alias = "consent")]
    pub(crate) accept_terms: bool,
    /// Upgrade gem-setup itself
    #[arg(long = "self", id = "own")]
    pub(crate) own: bool,
    /// Use this catalog of artifacts [default: the signed one, else the built-in one, or the one that was installed from]
    #[arg(long, value_name = "FILE", value_parser = existing_file(), conflicts_with = "catalog_url")]
    pub(crate) catalog: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) signed: SignedArgs,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
}

/// The parts that can be rolled back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RollbackChoice {
    /// The runtime
    Runtime,
    /// The model
    Model,
    /// gem-setup itself
    #[value(name = "self")]
    Own,
    /// The hosted models, to those inside gem-setup
    HostedModels,
    /// Gemini CLI's settings, as they were before gem-setup changed them
    Settings,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct RollbackArgs {
    /// What to return to its version before
    #[arg(value_name = "WHAT", default_value = "runtime")]
    pub(crate) what: RollbackChoice,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct CleanupArgs {
    /// Print what would be deleted, change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}
