//! The command `pull`.

use std::process::ExitCode;

use gem_setup::error::Failure;
use gem_setup::runtime::RuntimeName;
use gem_setup::setup::{self, OpenBundle, Setup, State, StepId, StepState, Wanted};

use super::args::{NetworkArgs, PullArgs};
use super::install::{check_model_file, how};
use super::layers::Origin;
use super::session::{Session, or_recorded, runtime_of};
use crate::report::{Events, Terminal};

/// The options that say how gem-setup itself downloads.
pub(crate) const OF_DOWNLOADS: [&str; 3] = ["mirror", "mirror-only", "ca-cert"];

/// Advice for a runtime without a model.
const OTHER_RUNTIME: &str =
    "`gem-setup install --runtime lit` or `gem-setup install --runtime litert-lm` installs one that has models";

/// Pulls one model with the configured runtime, after its terms are accepted. `given` are those of [`OF_DOWNLOADS`] on the
/// command line.
pub(crate) fn run(
    session: &Session<'_>,
    args: PullArgs,
    accepted: Option<Origin>,
    given: &[&str],
) -> Result<ExitCode, Failure> {
    let printer = session.printer;
    let events = Events::new(printer);
    let terminal = Terminal::new(printer);
    let pulled = prepare(session, args, accepted, given, &events, &terminal).and_then(|mut setup| {
        session.work_until_signal(async {
            let bundle = match setup.reopen_bundle(&[StepId::Model], false).await {
                Ok(bundle) => bundle,
                Err(failure) => {
                    let remark = format!("{}; the model comes from the network", failure.message);
                    printer.remark_in_prose(&remark, 2);
                    None
                }
            };
            let pulled = setup::pull(&mut setup).await?;
            bundle.into_iter().for_each(OpenBundle::close);
            Ok(pulled)
        })
    });
    let failure = match pulled {
        Ok((state, detail)) => {
            events.step_named("model", state, &detail);
            let changed: &[&str] = if state == StepState::Changed { &["model"] } else { &[] };
            events.result(changed, None);
            return Ok(ExitCode::SUCCESS);
        }
        Err(failure) => failure,
    };
    // In text mode the failure itself is printed below.
    if printer.json() {
        events.step_named("model", StepState::Failed, &failure.message);
    }
    events.result(&[], Some(&failure));
    Err(failure)
}

fn prepare<'s>(
    session: &'s Session<'_>,
    args: PullArgs,
    accepted: Option<Origin>,
    given: &[&str],
    events: &'s Events<'s>,
    terminal: &'s Terminal<'s>,
) -> Result<Setup<'s>, Failure> {
    let state = session.state()?.clone();
    let mut chosen = state.chosen.clone();
    let target = session.target()?;
    if let Some(runtime) = args.runtime {
        chosen.runtime = runtime_of(runtime, &session.catalog(chosen.catalog.as_ref())?, target);
    }
    chosen
        .runtime
        .require_model(format_args!("pull `{}`", args.name), OTHER_RUNTIME)?;
    check_model_file(args.model_file.as_ref(), chosen.runtime)?;
    if chosen.runtime == RuntimeName::Lit {
        for option in given {
            let text = format!("`--{option}` has no effect: the runtime `lit` downloads its models itself");
            session.printer.warning(&text);
        }
    }
    chosen.model = args.name;
    chosen.model_file = args.model_file.map(|file| session.environment.current_dir().join(file));
    let wanted = Wanted {
        accepted: args.accept_terms.then(|| how(accepted)),
        force: args.force,
        compare_file: chosen.model_file.is_some(),
        ..Wanted::from(chosen)
    };
    let network = network(args.network, &state);
    session.setup(state, wanted, &network, target, events, terminal)
}

/// `given`, completed with the recorded mirrors. A recorded bundle counts only for a model that it contains; other
/// models come from the network.
fn network(given: NetworkArgs, state: &State) -> NetworkArgs {
    let are_given = !given.mirror.is_empty() || given.mirror_only.is_some();
    let mut network = or_recorded(given, state);
    if state.chosen.bundle.is_some() && !are_given {
        network.mirror.clear();
        network.mirror_only = None;
    }
    network
}
