# shellcheck shell=bash
# What the trials share; sourced, not run. A trial takes the packages in DIST and leaves nothing behind.

. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
. "$ROOT/.ci/steps.sh"

WORK=$(mktemp -d)
STARTED=()
finish() {
    local status=$?
    trap - EXIT
    ((${#STARTED[@]} == 0)) || kill "${STARTED[@]}" 2>/dev/null || true
    # A server that was just ended may still write.
    for _ in {1..10}; do
        rm -rf "$WORK" 2>/dev/null && break
        sleep 1
    done
    exit "$status"
}
trap finish EXIT

fail() {
    echo "FAILED  $*" >&2
    exit 1
}

# takes_root WHAT: ends the trial, and says that WHAT is not tried, where this machine has no root or no namespaces for it.
takes_root() {
    ((EUID != 0)) || ! unshare --mount --pid --fork true 2>/dev/null || return 0
    echo "left out  $1: this takes root and namespaces"
    exit 0
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# background PORT LOG COMMAND…: starts a server, which finish ends, and waits until its port answers.
background() {
    local port=$1 log=$2
    shift 2
    "$@" >"$log" 2>&1 &
    STARTED+=("$!")
    for _ in {1..900}; do
        (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && return
        kill -0 "$!" 2>/dev/null || break
        sleep 0.2
    done
    cat "$log" >&2
    fail "does not start: $*"
}

# routed PROGRAM…: installs the built-in router into a home of its own, and has it decide; undoes it.
routed() {
    local home port
    home=$(mktemp -d "$WORK/home.XXXX")
    port=$(free_port)
    quietly "$WORK/log" "$@" install --home "$home" --runtime builtin --port "$port"
    "$@" route --home "$home" --json 'why does this architecture lose messages?' | grep -q '"tier":"pro"' || fail "$1: no decision"
    quietly "$WORK/log" "$@" uninstall --purge --yes --home "$home"
}

# npm_registry FOLDER: a registry with the packages, at NPM_PORT, for commands after `TO_REGISTRY`; what it has not, it gets from the usual one. Its files are in FOLDER.
npm_registry() {
    local config=$1/config.yaml
    NPM_PORT=$(free_port)
    mkdir -p "$1"
    # One of verdaccio's dependencies names a tag that not every registry knows.
    echo '{"private": true, "overrides": {"node-fetch": "2.7.0"}}' >"$1/package.json"
    step 'npm: verdaccio' "$WORK/log" npm install --prefix "$1" --no-audit --no-fund --loglevel=error verdaccio@6.8.0
    cat >"$config" <<CONFIG
storage: $1/storage
auth: { htpasswd: { file: $1/htpasswd } }
packages: { '**': { access: \$all, publish: \$all } }
max_body_size: 100mb
listen: 127.0.0.1:$NPM_PORT
CONFIG
    background "$NPM_PORT" "$1/log" "$1/node_modules/.bin/verdaccio" --config "$config"
    printf 'registry=http://127.0.0.1:%s/\n//127.0.0.1:%s/:_authToken=none\n' "$NPM_PORT" "$NPM_PORT" >"$1/npmrc"
    # The variable, because one that is set already would win over the file.
    TO_REGISTRY=(env -u NPM_CONFIG_REGISTRY "npm_config_registry=http://127.0.0.1:$NPM_PORT/" "npm_config_userconfig=$1/npmrc" npm_config_loglevel=error)
    step 'publish to it' "$WORK/log" "${TO_REGISTRY[@]}" "$PACKAGING/publish" npm "$DIST"
}

# python_index FOLDER: an index with the wheels, a page of links, at INDEX_PORT.
python_index() {
    local wheel
    INDEX_PORT=$(free_port)
    mkdir -p "$1/gem-setup"
    cp "$DIST"/*.whl "$1/gem-setup/"
    for wheel in "$1"/gem-setup/*.whl; do printf '<a href="%s">%s</a>\n' "${wheel##*/}" "${wheel##*/}"; done >"$1/gem-setup/index.html"
    background "$INDEX_PORT" "$WORK/index.log" python3 -m http.server --bind 127.0.0.1 --directory "$1" "$INDEX_PORT"
}
