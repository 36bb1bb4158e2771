# shellcheck shell=bash
# A machine of its own for a trial that changes one: mounts and a network of its own, and `packaging/try/systemctl` in systemd's place. Sourced, not
# run, by a script that is called with the program.

if [[ ${1:-} != --inside ]]; then
    packages systemd util-linux
    program=$(realpath "${1:?the program}")
    if ! unshare --mount --net true 2>/dev/null; then
        echo 'left out  the installation for all users: this takes root and namespaces'
        exit 0
    fi
    exec unshare --mount --net "$0" --inside "$program"
fi

program=$2
WORK=$(mktemp -d)
fail() { echo "FAILED  $*" >&2; exit 1; }
finish() {
    local status=$?
    trap - EXIT
    ((status == 0)) || tail -n 40 "$WORK"/log* "$STATE/journal" >&2 2>/dev/null || true
    systemctl stop gem-setup.service >/dev/null 2>&1 || true
    rm -rf "$WORK"
    # What was mounted here is gone; the directory below it was made for it.
    umount /etc/gemini-cli || true
    rmdir /etc/gemini-cli 2>/dev/null || true
    exit "$status"
}
mount --make-rprivate /
# Each of these places is empty at first, and gone at the end.
mkdir -p /etc/gemini-cli /etc/systemd/system /var/lib /usr/local/bin
for place in /etc/gemini-cli /etc/systemd/system /var/lib /usr/local/bin; do mount -t tmpfs -o mode=755 tmpfs "$place"; done
install -m 755 packaging/try/systemctl /usr/local/bin/systemctl
install -m 755 "$program" /usr/local/bin/gem-setup
export STATE=$WORK/systemd PATH=/usr/local/bin:$PATH HOME=$WORK/root
mkdir -p "$STATE" "$HOME"
trap finish EXIT
python3 -c 'import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh14x", b"lo", 1))'
