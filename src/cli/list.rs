//! The command `list`.

use std::process::ExitCode;

use gem_setup::error::Failure;
use gem_setup::runtime::{RuntimeName, is_listed};

use super::args::ListArgs;
use super::session::Session;

/// Prints the models that the configured runtime can serve, as `lit list` does.
pub(crate) fn run(session: &Session<'_>, args: ListArgs) -> Result<ExitCode, Failure> {
    let state = session.state()?;
    let site = session.site_to_read()?;
    let runtime = site
        .installed_runtime("list models", &state.chosen, state)
        .map_err(|failure| session.or_not_installed("list models", failure))?;
    if args.show_all && runtime.name() != RuntimeName::Lit {
        let text = format!(
            "`--show-all` has no effect: the runtime `{}` has no registry",
            runtime.name()
        );
        session.printer.warning(&text);
    }
    let listing = session.block_on(async { Ok(runtime.list(args.show_all).await?) })?;
    let printer = session.printer;
    if printer.json() {
        let has = |name: &&str| runtime.name().has_models() && is_listed(&listing, name);
        let names = site.catalog.model_names().filter(has);
        let models: Vec<&str> = names.collect();
        printer.json_line(&serde_json::json!({"runtime": runtime.name(), "models": models, "listing": listing}));
    } else {
        listing.trim_end().lines().for_each(|line| printer.line(line));
    }
    Ok(ExitCode::SUCCESS)
}
