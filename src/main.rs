//! gem-setup.

fn main() {}
