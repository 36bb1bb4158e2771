//! The integration tests of gem-setup: the built program against local servers.
#![cfg(test)]

mod companions;
#[cfg(unix)]
mod completions;
mod context;
mod control;
mod doctor;
#[cfg(target_os = "linux")]
mod documents;
mod failures;
mod gate;
mod harness;
mod install;
mod interrupted;
mod journal;
mod kept;
mod killed;
mod large;
mod launcher;
mod layers;
mod machine;
mod mirrors;
mod output;
mod owner;
mod place;
#[cfg(unix)]
mod progress;
mod pull;
mod reach;
mod route;
mod server_options;
mod service;
mod settings;
mod surroundings;
mod threshold;
mod upstream;
mod verdict;
