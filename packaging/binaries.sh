#!/usr/bin/env bash
# Executables for each target in TARGETS. README.md says why they are built this way.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

readonly MAX_BYTES=$((8 * 1024 * 1024))
TARGETS=${TARGETS:-linux-x86_64 linux-arm64 windows-x86_64}

python_tools ziglang==0.17.0 cargo-zigbuild==0.24.0
rust_tool cargo-auditable 0.7.7

# The standard library is always built from its sources, so that a release and a local build have one size: rustup's component rust-src with rustup's
# compiler, else Debian's sources with Debian's.
CARGO=$(rustup which cargo 2>/dev/null || command -v cargo)
# Not rustup's `rustc`: it would look for the toolchain that a dependency's `rust-toolchain.toml` names.
RUSTC=$(rustup which rustc 2>/dev/null || command -v rustc)
export CARGO RUSTC RUSTC_BOOTSTRAP=1 CARGO_UNSTABLE_BUILD_STD=std,panic_unwind
# Without the names of functions a trace of calls says nothing.
export CARGO_UNSTABLE_BUILD_STD_FEATURES=panic-unwind
sources_of() { [[ -d $("$1" --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library ]]; }
if ! sources_of "$RUSTC"; then
    RUSTC=/usr/bin/rustc
    sources_of "$RUSTC" || {
        echo "error: no sources of the standard library: run \`rustup component add rust-src\`, or install Debian's rustc-web and rust-web-src" >&2
        exit 1
    }
fi

# binary NAME TRIPLE: builds one executable and puts it into the stage.
binary() {
    local name=$1 triple=$2 command=zigbuild program=gem-setup out=${CARGO_TARGET_DIR:-$ROOT/target/dist-build} size sources flags=
    case $name in
        # zig has the objects that start a program, a standard library from source has not.
        linux-*) flags='-C link-self-contained=no' ;;
        windows-*)
            command=build program=gem-setup.exe
            export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=x86_64-w64-mingw32-gcc
            ;;
        macos-*)
            MACOSX_DEPLOYMENT_TARGET=$(about macos)
            export MACOSX_DEPLOYMENT_TARGET
            [[ $(uname) != Darwin ]] || command=build
            ;;
    esac
    sources=$(python3 -c 'import os, sys; print(os.path.realpath(sys.argv[1]))' "$("$RUSTC" --print sysroot)/lib/rustlib/src/rust")
    # No path of this machine gets into the executable.
    # The places of panics take 2 % of the executable.
    RUSTFLAGS="$flags -Z location-detail=none --remap-path-prefix=$ROOT=/gem-setup --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$sources=/rust" \
        cargo-auditable auditable "$command" --locked --profile dist --target "$triple" --target-dir "$out" --bin gem-setup
    mkdir -p "$STAGE/$name"
    cp "$out/$triple/dist/$program" "$STAGE/$name/$program"
    size=$(($(wc -c <"$STAGE/$name/$program")))
    ((size <= MAX_BYTES)) || { echo "error: $name: $size bytes are more than $MAX_BYTES" >&2; return 1; }
    echo "$name: $size bytes"
}

while read -r name triple; do
    [[ " $TARGETS " != *" $name "* ]] || binary "$name" "$triple"
done < <(about targets)
