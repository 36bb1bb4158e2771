#!/bin/sh
# Runs as root while the image is built. The home is set up at each start, as the user of the container: it may be a volume.
set -eu

if ! command -v gem-setup >/dev/null; then
    command -v npm >/dev/null || { echo 'error: the feature gem-setup needs npm; add the feature node' >&2; exit 1; }
    npm install --global "gem-setup@${VERSION:-latest}"
fi

mkdir -p /usr/local/share/gem-setup
{
    echo '#!/bin/sh'
    printf 'exec gem-setup install --runtime %s --port %s' "${RUNTIME:-builtin}" "${PORT:-9379}"
    [ "${ACCEPTTERMS:-false}" != true ] || printf ' --accept-terms'
    echo
} >/usr/local/share/gem-setup/start
chmod 755 /usr/local/share/gem-setup/start
