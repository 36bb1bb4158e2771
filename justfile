# The everyday commands; `just` without arguments lists them. CONTRIBUTING.md says when to run which.

export CARGO_TERM_COLOR := "always"

[private]
default:
    @just --list --unsorted

# Type-check everything
check:
    cargo check --workspace --all-targets

# Format everything
format:
    cargo fmt --all

# Lint everything, with warnings as errors
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# Run the unit tests, those whose path contains FILTER
unit FILTER="":
    cargo test --workspace --lib {{ FILTER }}

# Run the integration tests, those whose path contains FILTER
integration FILTER="":
    cargo test --test it {{ FILTER }}

# Run the examples in the documentation
examples:
    cargo test --workspace --doc

# Run all tests
test:
    cargo test --workspace

# Accept what the snapshot tests print now
snapshots:
    INSTA_UPDATE=always cargo test --test it output

# Build the documentation of the library and open it
docs:
    cargo doc --workspace --no-deps --open

# Run gem-setup on a scratch home: `just run install --runtime builtin --port 9400`
[positional-arguments]
run *ARGS:
    cargo run --quiet -- --home target/scratch-home "$@"

# Check the licences and sources of the dependencies
deny:
    bash .ci/dependencies

# Check the dependencies for known vulnerabilities (needs cargo-deny and access to GitHub)
advisories:
    cargo deny check advisories

# Fuzz one target of tests/fuzz for SECONDS (needs cargo-fuzz and a nightly compiler)
fuzz TARGET SECONDS="60":
    cd tests/fuzz && cargo +nightly fuzz run {{ TARGET }} -- -max_total_time={{ SECONDS }}

# Measure the built-in classifier
bench:
    cargo bench --bench classifier

# Everything that must hold before a change lands
ci:
    bash .ci/run
