//! `pull`.

use std::process::ExitCode;

use gem_setup::error::Failure;
use gem_setup::setup::{self, Setup, StepState, Wanted};

use super::args::{NetworkArgs, PullArgs};
use super::install::{check_model_file, how};
use super::layers::Origin;
use super::session::{Session, runtime_of};
use crate::report::{Events, Terminal};

/// Pulls one model with the configured runtime, its terms first.
pub(crate) fn run(session: &Session<'_>, args: PullArgs, accepted: Option<Origin>) -> Result<ExitCode, Failure> {
    let printer = session.printer;
    let events = Events::new(printer);
    let terminal = Terminal::new(printer);
    let pulled = prepare(session, args, accepted, &events, &terminal)
        .and_then(|mut setup| session.block_on_until_signal(setup::pull(&mut setup)));
    let failure = match pulled {
        Ok((state, detail)) => {
            events.step_named("model", state, &detail);
            let changed: &[&str] = if state == StepState::Changed { &["model"] } else { &[] };
            events.result(changed, None);
            return Ok(ExitCode::SUCCESS);
        }
        Err(failure) => failure,
    };
    events.step_named("model", StepState::Failed, &failure.message);
    events.result(&[], Some(&failure));
    Err(failure)
}

fn prepare<'s>(
    session: &'s Session<'_>,
    args: PullArgs,
    accepted: Option<Origin>,
    events: &'s Events<'s>,
    terminal: &'s Terminal<'s>,
) -> Result<Setup<'s>, Failure> {
    let state = session.state()?.clone();
    let mut chosen = state.chosen.clone();
    let target = session.target()?;
    if let Some(runtime) = args.runtime {
        chosen.runtime = runtime_of(runtime, &session.catalog(chosen.catalog.as_ref())?, target);
    }
    check_model_file(args.model_file.as_ref(), chosen.runtime)?;
    chosen.model = args.name;
    chosen.model_file = args.model_file.map(|file| session.environment.current_dir().join(file));
    let wanted = Wanted {
        accepted: args.accept_terms.then(|| how(accepted)),
        force: args.force,
        ..Wanted::from(chosen)
    };
    session.setup(state, wanted, &NetworkArgs::default(), target, events, terminal)
}
