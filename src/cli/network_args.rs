//! The options of every command that downloads.

use std::path::PathBuf;

use clap::Args;
use url::Url;

use super::layers::Origin;
use super::values::{MIRROR, certificates};

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct NetworkArgs {
    /// Replace https://github.com and https://huggingface.co in every artifact URL (https or file; http on this machine only); repeatable, tried in order
    #[arg(long, value_name = "URL", value_delimiter = ',', value_parser = MIRROR)]
    pub(crate) mirror: Vec<Url>,
    /// Never download from the origin when all mirrors fail
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub(crate) mirror_only: Option<bool>,
    /// Trust this certificate authority too (PEM)
    #[arg(long, value_name = "FILE", value_parser = certificates())]
    pub(crate) ca_cert: Option<PathBuf>,
}

impl NetworkArgs {
    /// Leaves out the mirrors of the configuration file, according to the `origin` of each option: a recorded bundle
    /// excludes them, as `--bundle` does.
    pub(crate) fn leave_out_file(&mut self, origin: &dyn Fn(&str) -> Origin) {
        if origin("mirror") == Origin::File {
            self.mirror.clear();
        }
        if origin("mirror-only") == Origin::File {
            self.mirror_only = None;
        }
    }
}
