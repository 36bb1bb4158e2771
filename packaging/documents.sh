#!/usr/bin/env bash
# Manual pages and completions, written by the program itself: by the one built for this machine, else by one built for it now.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

program=$STAGE/linux-$(uname -m | sed 's/aarch64/arm64/')/gem-setup
if [[ $(uname) != Linux || ! -x $program ]]; then
    cargo build -q --locked --bin gem-setup
    program=${CARGO_TARGET_DIR:-target}/debug/gem-setup
fi

rm -rf "$STAGE/man" "$STAGE/completions"
mkdir -p "$STAGE/man" "$STAGE/completions"
"$program" man "$STAGE/man"
# clap_mangen knows no date, names each command's page after itself alone, and makes a blank line out of two breaks.
day=$(date -u -d "@$SOURCE_DATE_EPOCH" +%F)
sed -i -E -z -e "s/(\n\.TH \S+ 1)[^\n]*/\1 \"$day\" \"gem-setup $(about version)\" \"User Commands\"/" -e 's/\.br\n\n\.br\n/.sp\n/g' "$STAGE"/man/*.1
for shell in bash:gem-setup zsh:_gem-setup fish:gem-setup.fish powershell:gem-setup.ps1 elvish:gem-setup.elv; do
    "$program" completions "${shell%%:*}" >"$STAGE/completions/${shell#*:}"
done
