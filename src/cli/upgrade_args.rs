//! The options of `upgrade`, `rollback`, `versions` and `cleanup`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use gem_setup::catalog::CatalogKey;
use url::Url;

use super::network_args::NetworkArgs;
use super::values::{URL, existing_file};

/// Options for the source of newer versions.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct SignedArgs {
    /// The address of a signed catalog; the signature's address is the same with `.minisig` added
    #[arg(long, value_name = "URL", value_parser = URL)]
    pub(crate) catalog_url: Option<Url>,
    /// The minisign public key that must verify the catalog [default: the one built into gem-setup, which only releases have]
    #[arg(long, value_name = "KEY")]
    pub(crate) catalog_key: Option<CatalogKey>,
}

/// Options for the notice of newer versions.
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
    /// Upgrade the runtime to this version, which the catalog must contain
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
    /// Allow a version older than the current one
    #[arg(long)]
    pub(crate) allow_older: bool,
    /// Accept the model's terms
    #[arg(long, alias = "consent")]
    pub(crate) accept_terms: bool,
    /// Upgrade gem-setup itself
    #[arg(long = "self", id = "own")]
    pub(crate) own: bool,
    /// Use this catalog of artifacts [default: the signed one, else the one that was used for the installation]
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
    /// The hosted models, back to those built into gem-setup
    HostedModels,
    /// Gemini CLI's settings, as they were before gem-setup changed them
    Settings,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct RollbackArgs {
    /// The part to return to its previous version
    #[arg(value_name = "WHAT", default_value = "runtime")]
    pub(crate) what: RollbackChoice,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct CleanupArgs {
    /// Print what would be deleted, change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}
