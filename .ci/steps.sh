# shellcheck shell=bash
# What the scripts of this directory share; sourced, not run.

# Other users have to read what is built and tried.
umask 022

# quietly LOG COMMAND…: runs COMMAND, shows what it said only if it fails.
quietly() {
    local log=$1 status=0
    shift
    "$@" >"$log" 2>&1 || status=$?
    if ((status)); then
        cat "$log" >&2
        echo "ended with status $status: $*" >&2
    fi
    return "$status"
}

# step WHAT LOG COMMAND…: the same, and says in one line what was done and how long it took.
step() {
    local what=$1 began=$SECONDS
    shift
    quietly "$@" || { echo "FAILED  $what ($((SECONDS - began)) s)" >&2; return 1; }
    echo "ok      $what ($((SECONDS - began)) s)"
}

# packages NAME…: installs the Debian packages that are not there yet.
packages() {
    local name missing=() root=() log
    for name; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || missing+=("$name")
    done
    ((${#missing[@]})) || return 0
    ((EUID == 0)) || root=(sudo)
    log=$(mktemp)
    step "apt-get update" "$log" "${root[@]}" apt-get update -q
    step "apt-get install ${missing[*]}" "$log" \
        "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -o DPkg::Lock::Timeout=300 -y -q --no-install-recommends "${missing[@]}"
    rm -f "$log"
}

# cross_compiler: chooses cargo and the compiler for another system, in CARGO, RUSTC and RUSTC_BOOTSTRAP.
#
# The standard library of the target is built from source (-Z build-std). That takes a compiler and a source of one version:
# Debian's rustc-web and rust-web-src. RUSTC_BOOTSTRAP lets a stable compiler do it.
cross_compiler() {
    # rustup's proxy would put its own compiler first; cargo itself takes the one named by RUSTC.
    # shellcheck disable=SC2034 # used by those who source this
    CARGO=$(rustup which cargo 2>/dev/null || command -v cargo)
    export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
}
