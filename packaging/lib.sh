# shellcheck shell=bash
# What the scripts of this directory share; sourced, not run.

# The modes of files in packages do not depend on the caller.
umask 022

PACKAGING=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$PACKAGING")
export DIST=${DIST:-$ROOT/target/dist} STAGE=${STAGE:-$ROOT/target/dist-build/stage}
readonly TOOLS=$ROOT/target/packaging-tools

# about NAME: version, repository, downloads, macos, npm, epoch or targets, from Cargo.toml and Git.
about() { python3 "$PACKAGING/targets.py" "$1"; }

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(about epoch)}
export SOURCE_DATE_EPOCH

# python_tools: pinned tools from PyPI in an environment of their own, before all others on the PATH.
python_tools() {
    [[ -x $TOOLS/bin/pip ]] || python3 -m venv "$TOOLS"
    "$TOOLS/bin/pip" install -q --disable-pip-version-check --no-input --only-binary=:all: "$@"
    PATH=$TOOLS/bin:$PATH
}

# rust_tool NAME VERSION: a tool from crates.io, unless it is there in this version. Built without optimisation: it runs once.
rust_tool() {
    grep -qs "^\"$1 $2 " "$TOOLS/cargo/.crates.toml" ||
        RUSTFLAGS='' CARGO_TARGET_DIR=$TOOLS/cargo/target cargo install -q --debug --locked --root "$TOOLS/cargo" "$1@$2"
    PATH=$TOOLS/cargo/bin:$PATH
}
