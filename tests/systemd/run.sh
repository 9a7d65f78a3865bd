#!/bin/bash
# Installs this build beside its units in a machine with a real systemd, and runs inside.sh there, or limits.sh.
#
#   tests/systemd/run.sh [limits] BOX [OPTION]...
#
# BOX boots such a machine for one command, called as
#
#   BOX [OPTION]... --tree DIRECTORY -- COMMAND [ARG]...
#
# It copies DIRECTORY over the machine's root, boots, runs COMMAND as root, and hands back what it prints and
# its status. `limits` wants one whose kernel enforces cgroup v2. The programs come from $POOLD_BUILD (target/debug), and must run with the machine's C library.
set -euo pipefail
cd "$(dirname "$0")/../.."

script=inside.sh
if [ "${1:-}" = limits ]; then
    script=limits.sh
    shift
fi
[ $# -gt 0 ] || { echo "run.sh: no command given that boots a machine; see the top of $0" >&2; exit 2; }
build=${POOLD_BUILD:-target/debug}

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"
install -D -m 755 -t "$tree/usr/bin" "$build/poold" "$build/poolctl"
install -D -m 644 -t "$tree/usr/lib/systemd/system" systemd/poold.service systemd/poold.socket
install -D -m 644 -t "$tree/usr/lib/systemd/user" systemd/user/poold.service systemd/user/poold.socket
install -D -m 644 systemd/poold.sysusers "$tree/usr/lib/sysusers.d/poold.conf"
install -D -m 644 -t "$tree/etc/poold" systemd/poold.toml
install -D -m 755 -t "$tree/usr/local/lib/poold-tests" tests/systemd/checks.sh "tests/systemd/$script"

"$@" --tree "$tree" -- /usr/local/lib/poold-tests/"$script"
