#!/usr/bin/env bash
# A Debian package for each Linux target.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

rust_tool cargo-deb 3.8.0

readonly PARTS=$ROOT/target/dist-build/deb
MAINTAINER=$(sed -n 's/^maintainer = "\(.*\)"$/\1/p' Cargo.toml)
rm -rf "$PARTS"
mkdir -p "$PARTS"
cp -r "$STAGE/man" "$STAGE/completions" "$PARTS/"
cat >"$PARTS/changelog" <<CHANGELOG
gem-setup ($(about version)-1) unstable; urgency=medium

  * New release; its changes are in the project's CHANGELOG.md.

 -- $MAINTAINER  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")
CHANGELOG

while read -r name triple; do
    [[ $name == linux-* && -x $STAGE/$name/gem-setup ]] || continue
    cp "$STAGE/$name/gem-setup" "$PARTS/gem-setup"
    cargo-deb deb -q --no-build --no-strip --target "$triple" --output "$DIST/"
done < <(about targets)
