#!/bin/sh
# Installs gem-setup @VERSION@ for one user: program, manual pages, completions.
#
#   curl -fsSL @DOWNLOADS@/install.sh | sh
#   curl -fsSL @DOWNLOADS@/install.sh | sh -s -- install --runtime builtin
#
# `--help` shows the options, which stand before gem-setup's command.
# shellcheck disable=SC2016 # `$PATH` and `$fpath` in the hints are for the reader's shell.
set -eu

base=@DOWNLOADS@
key=@PUBLIC_KEY@
to=

usage() {
    cat <<'USAGE'
Installs gem-setup @VERSION@ for one user: program, manual pages, completions.

Usage: install.sh [OPTIONS] [COMMAND…]

COMMAND and all that follows go to gem-setup once it is installed, such as `install --runtime builtin`.

Options:
  --to DIR      where the program goes; default ~/.local/bin
  --base URL    where archives and SHA256SUMS are: https, http on this machine, file, or a directory
  -h, --help    print this and install nothing

Needs curl or wget, tar, gzip, and sha256sum or shasum; needs no root. Checks the archive's SHA-256, and with minisign the signature too.
USAGE
}

fail() {
    printf 'error: %s\n' "$1" >&2
    printf 'hint: %s\n' "$2" >&2
    exit "${3:-1}"
}

has() { command -v "$1" >/dev/null 2>&1; }

# needs PROGRAM PACKAGE
needs() { has "$1" || fail "\`$1\` is not installed" "install it: it is in the package $2"; }

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

# listed NAME: the SHA-256 that SHA256SUMS gives for NAME; nothing without one. Fails if the file is something else, such as a login page.
listed() {
    return_key=$(printf '\r')
    seen=
    while read -r digest file || [ -n "$digest" ]; do
        # Something on the way may have ended the lines as Windows does.
        digest=${digest%"$return_key"} file=${file%"$return_key"}
        [ -n "$digest" ] || continue
        case $digest in *[!0-9a-fA-F]*) return 1 ;; esac
        [ "${#digest}" -eq 64 ] && [ -n "$file" ] || return 1
        seen=1
        [ "${file#\*}" != "$1" ] || echo "$digest"
    done <"$work/SHA256SUMS"
    [ -n "$seen" ]
}

# expect NAME: sets `expected` to the SHA-256 of NAME, from a list whose signature is checked where that can be done.
expect() {
    expected=$(listed "$1") ||
        fail "$base/SHA256SUMS is not a list of checksums" 'a login page or a proxy may have answered instead: open the URL in a browser, or name a mirror with --base' 6
    if [ -n "$key" ] && has minisign; then
        fetch SHA256SUMS.minisig "$work/SHA256SUMS.minisig" ||
            fail "the signature of $base/SHA256SUMS cannot be downloaded" 'check the URL and the connection' 5
        minisign -V -q -P "$key" -m "$work/SHA256SUMS" >&2 ||
            fail "the signature of $base/SHA256SUMS is wrong" 'do not use these files; report it' 6
    fi
    [ -n "$expected" ] || fail "$base/SHA256SUMS does not name $1" 'there may be no build for this platform' 6
}

# download NAME: the file, in the working directory.
download() {
    fetch "$1" "$work/$1" || fail "cannot download $base/$1" 'check the URL and the connection, or name a mirror with --base' 5
}

# place FILE DESTINATION MODE: puts a file in place at once, so that a running program keeps its own. `set -e` does not count where this is tested.
place() {
    if [ ! -d "$2" ] && mkdir -p "${2%/*}" && cp "$1" "$2.new.$$" && chmod "$3" "$2.new.$$" && mv -f "$2.new.$$" "$2"; then
        return
    fi
    rm -f "$2.new.$$" 2>/dev/null
    return 1
}

# place_program FROM: puts the program in place once it has run there, so that one that works is not lost.
place_program() {
    if [ -d "$to/gem-setup" ] || ! cp "$1" "$to/gem-setup.new.$$" || ! chmod 755 "$to/gem-setup.new.$$"; then
        fail "cannot write $to/gem-setup" 'name a directory of yours with --to'
    fi
    if ! version=$("$to/gem-setup.new.$$" version); then
        kept=
        [ ! -e "$to/gem-setup" ] || kept="; $to/gem-setup stays as it was"
        fail "gem-setup does not run in $to$kept" 'name a directory whose file system allows programs with --to'
    fi
    mv -f "$to/gem-setup.new.$$" "$to/gem-setup" || fail "cannot replace $to/gem-setup" 'name a directory of yours with --to'
}

# place_documents FROM SHARE: manual pages and completions.
place_documents() {
    for page in "$1"/man/*; do place "$page" "$2/man/man1/${page##*/}" 644 || return; done
    place "$1/completions/gem-setup" "$2/bash-completion/completions/gem-setup" 644 &&
        place "$1/completions/_gem-setup" "$2/zsh/site-functions/_gem-setup" 644 &&
        place "$1/completions/gem-setup.fish" "$2/fish/vendor_completions.d/gem-setup.fish" 644
}

# hint_zsh SHARE: what makes zsh find the completions, which has no directory of the user's in its `fpath`.
hint_zsh() {
    has zsh && [ -e "$1/zsh/site-functions/_gem-setup" ] || return 0
    case :$(zsh -c 'print -r -- "$FPATH"' 2>/dev/null </dev/null): in *":$1/zsh/site-functions:"*) return ;; esac
    startup=${ZDOTDIR:-$HOME}/.zshrc
    ! grep -qsF zsh/site-functions "$startup" || return 0
    line="fpath=('$1/zsh/site-functions' \$fpath)"
    # Who starts the completions already does so after this line.
    grep -qs 'compinit\|oh-my-zsh' "$startup" || line="$line; autoload -Uz compinit; compinit"
    printf 'hint: for completions in zsh, make this the first line of %s: %s\n' "$startup" "$line" >&2
}

# options ARGUMENT…: sets `to` and `base`, and `taken` to the number of arguments that are options.
options() {
    taken=$#
    while [ $# -gt 0 ]; do
        case $1 in
            --to | --base)
                [ $# -gt 1 ] || fail "\`$1\` needs a value" '`--help` shows the options' 2
                option=$1 value=$2
                shift
                ;;
            --to=* | --base=*) option=${1%%=*} value=${1#*=} ;;
            -h | --help)
                usage
                exit
                ;;
            --)
                shift
                break
                ;;
            -*) fail "unknown option \`$1\`" '`--help` shows the options; options of gem-setup stand after its command' 2 ;;
            *) break ;;
        esac
        [ -n "$value" ] || fail "\`$option\` needs a value" '`--help` shows the options' 2
        if [ "$option" = --to ]; then to=$value; else base=${value%/}; fi
        shift
    done
    taken=$((taken - $#))
}

main() {
    options "$@"
    shift "$taken"
    if [ -z "$to" ]; then
        [ -n "${HOME:-}" ] || fail 'HOME is not set' 'set it, or name a directory with --to' 2
        to=$HOME/.local/bin
    fi
    needs tar tar
    needs gzip gzip
    needs mktemp coreutils
    mkdir -p -- "$to" || fail "cannot create $to" 'name a directory of yours with --to'
    to=$(CDPATH='' cd -- "$to" && pwd)

    name=gem-setup-$(target)
    work=$(mktemp -d)
    trap 'rm -rf "$work" "$to/gem-setup.new.$$"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    download SHA256SUMS
    expect "$name.tar.gz"
    download "$name.tar.gz"
    found=$(sum "$work/$name.tar.gz")
    [ "$expected" = "$found" ] ||
        fail "$base/$name.tar.gz has the SHA-256 $found, not $expected" 'the download is damaged or has been changed: run the command again' 6
    gzip -dc "$work/$name.tar.gz" | (cd "$work" && tar -xf -) || fail "cannot unpack $name.tar.gz" 'check the room in the temporary directory'

    place_program "$work/$name/gem-setup"
    printf 'installed %s as %s\n' "$version" "$to/gem-setup" >&2
    case :$PATH: in
        *":$to:"*) ;;
        *) printf 'hint: add it to your PATH: export PATH="%s:$PATH"\n' "$to" >&2 ;;
    esac
    if [ -n "${HOME:-}" ]; then
        share=${XDG_DATA_HOME:-$HOME/.local/share}
        if place_documents "$work/$name" "$share"; then
            hint_zsh "$share"
        else
            printf 'warning: cannot write to %s: manual pages and completions are left out\n' "$share" >&2
        fi
    fi
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
