//! Output: lines for people, JSON for programs, bars, questions.

mod ask;
mod bars;
mod consent;
mod diagnosis;
mod events;
mod given;
mod margin;
mod printer;
pub(crate) mod signals;
mod speed;
mod wrap;

pub(crate) use ask::Terminal;
pub(crate) use bars::Bars;
pub(crate) use consent::{Owner, Person};
pub(crate) use diagnosis::Diagnosis;
pub(crate) use events::Events;
pub(crate) use given::GivenBelow;
pub(crate) use printer::{Palette, Printer, unwritten};
