//! The integration tests of gem-setup: the built program against local servers.
#![cfg(test)]

#[cfg(target_os = "linux")]
mod account;
#[cfg(target_os = "linux")]
mod beforehand;
mod broken;
mod bundle;
mod bundle_place;
mod bundle_refused;
mod cached;
#[cfg(target_os = "linux")]
mod circles;
mod companions;
#[cfg(unix)]
mod completions;
#[cfg(target_os = "linux")]
mod consent;
mod context;
mod control;
mod doctor;
#[cfg(target_os = "linux")]
mod documents;
mod failures;
#[cfg(target_os = "linux")]
mod foreign;
mod fresh;
mod gate;
mod growth;
mod harness;
mod hosted_models;
mod hub;
mod idle;
mod install;
mod interrupted;
mod journal;
mod kept;
mod killed;
mod large;
mod launcher;
mod layers;
#[cfg(unix)]
mod lock;
mod machine;
mod mirrors;
mod misplaced;
mod model_upgrade;
mod newcomer;
#[cfg(unix)]
mod one_file;
#[cfg(target_os = "linux")]
mod origins;
mod output;
mod owner;
mod place;
#[cfg(unix)]
mod progress;
mod pull;
mod reach;
mod records;
mod reload;
mod reopened;
mod replaced;
mod route;
mod server_options;
mod service;
mod settings;
mod signed_catalog;
#[cfg(target_os = "linux")]
mod silent;
mod surroundings;
mod team;
#[cfg(target_os = "linux")]
mod threads;
mod threshold;
mod upgrade;
mod upstream;
mod verdict;
