//! The integration tests of gem-setup: the built program against local servers.

mod place;
