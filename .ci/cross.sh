# What .ci/windows and .ci/macos share; sourced, not run.
#
# The standard library of the target is built from source (-Z build-std), which takes a compiler and a source of the same
# version: Debian's rustc-web and rust-web-src. RUSTC_BOOTSTRAP lets a stable compiler do that.

# quietly LOG COMMAND…: runs COMMAND, shows what it said only if it fails.
quietly() {
    local log=$1
    shift
    if ! "$@" >"$log" 2>&1; then
        cat "$log" >&2
        echo "failed: $*" >&2
        return 1
    fi
}

# step WHAT LOG COMMAND…: the same, and says in one line what was done and how long it took.
step() {
    local what=$1 began=$SECONDS
    shift
    quietly "$@" || { echo "FAILED  $what" >&2; return 1; }
    echo "ok      $what ($((SECONDS - began)) s)"
}

# cross_packages NAME…: installs the Debian packages that are not there yet.
cross_packages() {
    local name missing=() log
    for name; do
        dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
    done
    ((${#missing[@]})) || return 0
    log=$(mktemp)
    local root=()
    ((EUID == 0)) || root=(sudo)
    step "apt: update" "$log" "${root[@]}" apt-get update -q
    step "apt: install ${missing[*]}" "$log" \
        "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
    rm -f "$log"
}

# rustup's proxy would put its own compiler first; cargo itself takes the one named by RUSTC.
CARGO=$(rustup which cargo 2>/dev/null || command -v cargo)
export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
