//! How things are said: to people, to programs, as bars, as questions.

mod ask;
mod bars;
mod events;
mod printer;

pub(crate) use ask::Terminal;
pub(crate) use events::Events;
pub(crate) use printer::{Palette, Printer};
