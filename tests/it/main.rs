//! The integration tests of gem-setup: the built program against local servers.

#[cfg(test)]
mod harness;
#[cfg(test)]
mod install;

mod place;
