//! The integration tests of gem-setup: the built program against local servers.

#[cfg(test)]
mod companions;
#[cfg(test)]
mod control;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod install;
#[cfg(test)]
mod interrupted;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod large;
#[cfg(test)]
mod layers;
#[cfg(test)]
mod mirrors;
#[cfg(test)]
mod output;
#[cfg(test)]
mod place;
#[cfg(test)]
mod pull;
#[cfg(test)]
mod reach;
#[cfg(test)]
mod route;
#[cfg(test)]
mod service;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod upstream;
