#!/bin/sh
# Installs gem-setup @VERSION@ for one user: program, manual pages, completions.
#
#   curl -fsSL @DOWNLOADS@/install.sh | sh
#   curl -fsSL @DOWNLOADS@/install.sh | sh -s -- install --runtime builtin
#
# Options, before the arguments for gem-setup itself:
#   --to DIR        where the program goes; default ~/.local/bin
#   --base URL      where archives and SHA256SUMS are: https, http on this machine, file, or a directory
# Needs curl or wget, tar, gzip and sha256sum or shasum; needs no root. Checks the archive's SHA-256, and with minisign the signature too.
# shellcheck disable=SC2016 # `$PATH` in the hint is for the reader's shell.
set -eu

base=@DOWNLOADS@
key=@PUBLIC_KEY@
to=

fail() {
    printf 'error: %s\n' "$1" >&2
    printf 'hint: %s\n' "$2" >&2
    exit "${3:-1}"
}

has() { command -v "$1" >/dev/null 2>&1; }

# fetch NAME FILE
fetch() {
    case $base in
        file://*) cp -- "${base#file://}/$1" "$2" ;;
        /*) cp -- "$base/$1" "$2" ;;
        https://* | http://127.0.0.1[:/]* | http://localhost[:/]* | http://\[::1\]*)
            if has curl; then
                # A redirection leads to nothing less safe.
                case $base in https:*) only='=https' ;; *) only='=http,https' ;; esac
                curl --proto "$only" --tlsv1.2 -fsSL --retry 3 -o "$2" "$base/$1"
            elif has wget; then
                wget -q -O "$2" "$base/$1"
            else
                fail 'neither curl nor wget is installed' 'install one of them'
            fi
            ;;
        *) fail "cannot download from \`$base\`" 'name an https URL, a file URL or a directory with --base' 2 ;;
    esac
}

sum() {
    if has sha256sum; then
        sha256sum "$1" | cut -d ' ' -f 1
    elif has shasum; then
        shasum -a 256 "$1" | cut -d ' ' -f 1
    else
        fail 'neither sha256sum nor shasum is installed' 'install coreutils'
    fi
}

target() {
    case $(uname -s) in
        Linux) system=linux ;;
        Darwin) system=macos ;;
        *) fail "this script installs on Linux and macOS, not on \`$(uname -s)\`" 'on Windows use install.ps1' 4 ;;
    esac
    case $(uname -m) in
        x86_64 | amd64) machine=x86_64 ;;
        aarch64 | arm64) machine=arm64 ;;
        *) fail "there is no build for \`$(uname -m)\`" 'build gem-setup from source' 4 ;;
    esac
    # A shell that is translated by Rosetta calls the machine by the wrong name.
    if [ "$system $machine" = 'macos x86_64' ] && [ "$(sysctl -n sysctl.proc_translated 2>/dev/null)" = 1 ]; then
        machine=arm64
    fi
    echo "$system-$machine"
}

# verify FILE NAME: compares with SHA256SUMS, whose signature is checked where that can be done.
verify() {
    if [ -n "$key" ] && has minisign; then
        fetch SHA256SUMS.minisig "$work/SHA256SUMS.minisig" ||
            fail "the signature of $base/SHA256SUMS cannot be downloaded" 'check the URL and the connection' 5
        minisign -V -q -P "$key" -m "$work/SHA256SUMS" >&2 ||
            fail "the signature of $base/SHA256SUMS is wrong" 'do not use these files; report it' 6
    fi
    expected=$(awk -v name="$2" '$2 == name || $2 == "*" name { print $1 }' "$work/SHA256SUMS")
    [ -n "$expected" ] || fail "$base/SHA256SUMS does not name $2" 'there may be no build for this platform' 6
    found=$(sum "$1")
    [ "$expected" = "$found" ] ||
        fail "$base/$2 has the SHA-256 $found, not $expected" 'the download is damaged or has been changed: run the command again' 6
}

# place FILE DESTINATION MODE: puts a file in place at once, so that a running program keeps its own. `set -e` does not count where this is tested.
place() {
    if [ ! -d "$2" ] && mkdir -p "${2%/*}" && cp "$1" "$2.new.$$" && chmod "$3" "$2.new.$$" && mv -f "$2.new.$$" "$2"; then
        return
    fi
    rm -f "$2.new.$$" 2>/dev/null
    return 1
}

# place_documents FROM SHARE: manual pages and completions.
place_documents() {
    for page in "$1"/man/*; do place "$page" "$2/man/man1/${page##*/}" 644 || return; done
    place "$1/completions/gem-setup" "$2/bash-completion/completions/gem-setup" 644 &&
        place "$1/completions/_gem-setup" "$2/zsh/site-functions/_gem-setup" 644 &&
        place "$1/completions/gem-setup.fish" "$2/fish/vendor_completions.d/gem-setup.fish" 644
}

main() {
    while [ $# -gt 0 ]; do
        case $1 in
            --to | --base)
                [ $# -gt 1 ] || fail "\`$1\` needs a value" "see the beginning of this script" 2
                if [ "$1" = --to ]; then to=$2; else base=${2%/}; fi
                shift 2
                ;;
            *) break ;;
        esac
    done
    if [ -z "$to" ]; then
        [ -n "${HOME:-}" ] || fail 'HOME is not set' 'set it, or name a directory with --to' 2
        to=$HOME/.local/bin
    fi
    mkdir -p "$to" || fail "cannot create $to" 'name a directory of yours with --to'
    to=$(CDPATH='' cd -- "$to" && pwd)

    name=gem-setup-$(target)
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    for file in SHA256SUMS "$name.tar.gz"; do
        fetch "$file" "$work/$file" || fail "cannot download $base/$file" 'check the URL and the connection, or name a mirror with --base' 5
    done
    verify "$work/$name.tar.gz" "$name.tar.gz"
    gzip -dc "$work/$name.tar.gz" | (cd "$work" && tar -xf -) || fail "cannot unpack $name.tar.gz" 'check the room in the temporary directory'

    place "$work/$name/gem-setup" "$to/gem-setup" 755 || fail "cannot write $to/gem-setup" 'name a directory of yours with --to'
    if [ -n "${HOME:-}" ]; then
        share=${XDG_DATA_HOME:-$HOME/.local/share}
        place_documents "$work/$name" "$share" ||
            printf 'warning: cannot write to %s: manual pages and completions are left out\n' "$share" >&2
    fi
    version=$("$to/gem-setup" version) || fail "$to/gem-setup does not run" 'name a directory whose file system allows programs with --to'
    printf 'installed %s as %s\n' "$version" "$to/gem-setup" >&2
    case :$PATH: in
        *":$to:"*) ;;
        *) printf 'hint: add it to your PATH: export PATH="%s:$PATH"\n' "$to" >&2 ;;
    esac
    if [ $# -gt 0 ]; then
        rm -rf "$work"
        # This script may be what standard input was; questions are asked at the terminal, if there is one.
        if [ ! -t 0 ] && [ -t 2 ] && (: </dev/tty) 2>/dev/null; then
            exec "$to/gem-setup" "$@" </dev/tty
        fi
        exec "$to/gem-setup" "$@"
    fi
}

# All of the script has arrived before any of it runs.
main "$@"
