//! The command of the current release, for a running server that changes to a new release.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use gem_platform::Target;

use super::release::recorded_catalog;
use super::site::Site;
use super::state::State;
use super::wanted::Chosen;
use crate::environment::Environment;
use crate::layout::Layout;
use crate::runtime::{CommandLine, Stamp};
use crate::supervise::CurrentCommand;

/// Looks up the command of the current release of the runtime in `chosen`, as far as it is recorded. Reads the record
/// only if it has changed.
#[must_use]
pub fn current_command(site: &Site<'_>, chosen: &Chosen) -> CurrentCommand {
    let lookup = Lookup {
        layout: site.layout.clone(),
        environment: site.environment.clone(),
        program: site.program.clone(),
        target: site.target,
        chosen: chosen.clone(),
    };
    let known: Mutex<Option<(Stamp, Option<CommandLine>)>> = Mutex::default();
    Arc::new(move || {
        let stamp = Stamp::of(&lookup.layout.state_file())?;
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((seen, command)) if *seen == stamp => command.clone(),
            _ => known.insert((stamp, lookup.read())).1.clone(),
        }
    })
}

struct Lookup {
    layout: Layout,
    environment: Environment,
    program: PathBuf,
    target: Target,
    chosen: Chosen,
}

impl Lookup {
    fn read(&self) -> Option<CommandLine> {
        let state = State::read_without_secrets(&self.layout.state_file()).ok()??;
        if state.chosen.runtime != self.chosen.runtime {
            return None;
        }
        let mut site = Site {
            layout: self.layout.clone(),
            environment: &self.environment,
            program: self.program.clone(),
            config: None,
            globals: String::new(),
            given: Vec::new(),
            target: self.target,
            catalog: recorded_catalog(&self.layout, &state, self.target).ok()?,
            directory: None,
            workspace: None,
        };
        site.place_release(self.chosen.runtime, &state);
        let runtime = site.runtime(&self.chosen, &state).ok()?;
        runtime.program().filter(|program| program.exists())?;
        Some(runtime.serve()?.edition(state.model_swaps))
    }
}
