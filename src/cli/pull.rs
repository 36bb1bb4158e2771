//! `pull`.

use std::process::ExitCode;

use gem_setup::error::Failure;
use gem_setup::setup::{self, Choices, Setup, StepState};

use super::args::{NetworkArgs, PullArgs};
use super::install::how;
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
    let mut choices = Choices::recorded(&session.state()?);
    let target = session.target()?;
    if let Some(runtime) = args.runtime {
        choices.runtime = runtime_of(runtime, &session.catalog(choices.catalog.as_ref())?, target);
    }
    choices.model = args.name;
    choices.accepted = args.accept_terms.then(|| how(accepted));
    choices.model_file = args.model_file.map(|file| session.environment.current_dir().join(file));
    choices.force = args.force;
    session.setup(choices, &NetworkArgs::default(), target, events, terminal)
}
