# What the scripts in here check with. To be sourced; `finish` prints the counts and ends.
# shellcheck shell=bash

passed=0
failed=0
SECONDS_MAX=30
NUMBER=112272535095293
CONFIG=/etc/poold/poold.toml
scratch=$(mktemp -d)

# check WHAT COMMAND...: whether the command succeeds.
check() {
    local what=$1
    shift
    if "$@" > "$scratch/said" 2>&1; then
        passed=$((passed + 1))
        echo "ok      $what"
    else
        failed=$((failed + 1))
        echo "FAILED  $what: status $?: $*"
        sed 's/^/        /' "$scratch/said"
    fi
}

# says EXPECTED COMMAND...: whether that is what the command prints, and it exits 0.
says() {
    local expected=$1 said
    shift
    said=$("$@") && [ "$said" = "$expected" ] || { echo "printed '$said', not '$expected'"; return 1; }
}

# ends STATUS COMMAND...: whether the command exits so.
ends() {
    local expected=$1 status=0
    shift
    "$@" || status=$?
    [ "$status" -eq "$expected" ] || { echo "exited $status, not $expected"; return 1; }
}

# before_long COMMAND...: whether the command succeeds within SECONDS_MAX.
before_long() {
    local end=$((SECONDS + SECONDS_MAX))
    until "$@"; do
        [ $SECONDS -lt $end ] || { echo "not within $SECONDS_MAX s"; return 1; }
        sleep 0.05
    done
}

matches() { grep -q -- "$1" "$2" || { cat "$2"; return 1; }; }
gone() { ! kill -0 "$1" 2> /dev/null; }
all_gone() { local pid; for pid; do gone "$pid" || return 1; done; }
property() { systemctl show --value --property "$1" "${2:-poold.service}"; }
property_is() { says "$2" property "$1"; }
daemon() { property MainPID; }
daemon_is_not() { local pid; pid=$(daemon); [ "$pid" -ne 0 ] && [ "$pid" -ne "$1" ]; }
journal_has() { journalctl --no-pager -q -u poold.service --since "$since" | grep -q -- "$1"; }

# status EXPRESSION: that Python expression of the daemon's status, `s`.
status() { poolctl status --json | python3 -c "import json, sys; s = json.load(sys.stdin); print($1)"; }
workers() { status '*[w["pid"] for w in s["workers"] if w["pid"]]'; }
running() { says "$1" status 's["tasks"]["running"]' 2> /dev/null; }

# start_client NAME COMMAND...: a client in the background; client_ended NAME STATUS waits for it.
declare -A client_pids
start_client() {
    local name=$1
    shift
    "$@" > "$scratch/$name.out" 2> "$scratch/$name.err" &
    client_pids[$name]=$!
}
client_ended() {
    local status=0
    wait "${client_pids[$1]}" || status=$?
    [ "$status" -eq "$2" ] || { echo "$1 exited $status, not $2:"; cat "$scratch/$1.out" "$scratch/$1.err"; return 1; }
}

section() { since=$(date '+%F %T'); printf '\n%s\n' "$1"; }

finish() {
    printf '\n%d passed, %d failed\n' $passed $failed
    rm -rf "$scratch"
    [ $failed -eq 0 ]
    exit
}
