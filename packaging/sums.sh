#!/usr/bin/env bash
# SHA256SUMS over all packages; with MINISIGN_KEY, a file with an unencrypted secret key, its signature too.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$DIST"

rm -f SHA256SUMS SHA256SUMS.minisig
find . -maxdepth 1 -type f ! -name 'SHA256SUMS*' -printf '%P\n' | LC_ALL=C sort | xargs sha256sum >SHA256SUMS
[[ -z ${MINISIGN_KEY:-} ]] || minisign -S -s "$MINISIGN_KEY" -m SHA256SUMS -t "gem-setup $(about version)"
cat SHA256SUMS
