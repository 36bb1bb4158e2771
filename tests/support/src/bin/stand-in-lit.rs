//! The stand-in for the `lit` runtime; see `gem_setup_support::stand_in` for its switches.

use std::process::ExitCode;

fn main() -> ExitCode {
    gem_setup_support::stand_in::main(std::env::args().skip(1).collect())
}
