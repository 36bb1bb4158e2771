//! The options of every command that downloads.

use std::path::PathBuf;

use clap::Args;
use url::Url;

use super::values::{MIRROR, certificates};

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct NetworkArgs {
    /// Replace https://github.com and https://huggingface.co in every artifact URL (https or file; http on this machine only); repeatable, tried in order
    #[arg(long, value_name = "URL", value_delimiter = ',', value_parser = MIRROR)]
    pub(crate) mirror: Vec<Url>,
    /// Never download from the origin when all mirrors fail
    #[arg(long)]
    pub(crate) mirror_only: bool,
    /// Trust this certificate authority too (PEM)
    #[arg(long, value_name = "FILE", value_parser = certificates())]
    pub(crate) ca_cert: Option<PathBuf>,
}
