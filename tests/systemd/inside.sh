#!/bin/bash
# What the units must do under a real systemd. Runs as root in a machine of its own; run.sh puts it there.
# Prints a line per check, then the counts; ends with 1 if a check failed.
set -uo pipefail

# shellcheck source=tests/systemd/checks.sh
. "$(dirname "$0")/checks.sh"

section "installation"
check "the user is made" systemd-sysusers
check "units load" systemctl daemon-reload
check "the socket starts" systemctl enable --now poold.socket
check "the daemon does not run yet" property_is ActiveState inactive
check "the socket belongs to the user and the group" says "poold poold 660" stat -c '%U %G %a' /run/poold/poold.sock
check "the exposure is at most 2.0" systemd-analyze security --no-pager --threshold=20 poold.service

section "activation"
check "the first submission starts the daemon and is answered" says true poolctl submit is_prime $NUMBER
check "the daemon runs" property_is ActiveState active
check "it says what it does" test -n "$(property StatusText)"
check "its user is poold" says poold stat -c %U "/proc/$(daemon)"

section "access"
useradd --system --no-create-home --groups poold member
useradd --system --no-create-home stranger
check "a member of the group may submit" says true runuser -u member -- poolctl submit is_prime $NUMBER
check "another user may not connect" ends 3 runuser -u stranger -- poolctl submit is_prime $NUMBER
check "a member may not reload" ends 4 runuser -u member -- poolctl reload

section "readiness"
check "a restart returns" systemctl restart poold.service
check "every pool has a ready worker by then" says True status 'all(p["ready"] > 0 for p in s["pools"])'

section "death by SIGKILL"
old=$(daemon)
old_workers=$(workers)
restarts=$(property NRestarts)
start_client waiting poolctl submit sleep 600
check "a client's task runs" before_long running 1
check "the daemon is killed" systemctl kill --kill-who=main -s KILL poold.service
check "the next client is answered" says true poolctl submit is_prime $NUMBER
check "by another daemon" daemon_is_not "$old"
check "that systemd restarted" test "$(property NRestarts)" -gt "$restarts"
check "the waiting client is told that its task is lost" client_ended waiting 126
check "in one line" says 1 wc -l < "$scratch/waiting.err"
# Word splitting on purpose: a list of pids.
# shellcheck disable=SC2086
check "the old workers are gone" all_gone $old_workers

section "watchdog"
mkdir -p /run/systemd/system/poold.service.d
printf '[Service]\nWatchdogSec=2s\n' > /run/systemd/system/poold.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart poold.service
old=$(daemon)
kill -STOP "$old"
start_client patient poolctl submit is_prime $NUMBER
check "a stopped daemon is replaced" before_long daemon_is_not "$old"
check "by the watchdog" before_long journal_has "Watchdog timeout"
check "a client that had connected meanwhile is answered" client_ended patient 0
old=$(daemon)
sleep 5
check "a daemon at rest is left alone" says "$old" daemon
rm /run/systemd/system/poold.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart poold.service

section "reload"
old=$(daemon)
start_client undisturbed poolctl submit sleep 3
check "a client's task runs" before_long running 1
printf '[pool.cpu]\nworkers = 3\n' > $CONFIG
check "a reload returns" systemctl reload poold.service
check "with the new configuration in force" says 3 status 's["pools"][0]["workers"]'
check "in the same daemon" says "$old" daemon
printf '[pool.cpu]\nwrokers = 2\n' > $CONFIG
check "a reload of a wrong file fails" ends 1 systemctl reload poold.service
check "and says where" before_long journal_has "$CONFIG:2:1: unknown key"
check "and changes nothing" says 3 status 's["pools"][0]["workers"]'
check "the task that ran is not disturbed" client_ended undisturbed 0

section "wrong configuration"
check "a restart with a wrong file fails" ends 1 systemctl restart poold.service
check "with exit status 2" property_is ExecMainStatus 2
check "and is not tried again" property_is NRestarts 0
check "the reason is in the journal" journal_has "$CONFIG:2:1: unknown key"
printf '[pool.cpu]\nworkers = 2\n' > $CONFIG
systemctl reset-failed poold.service
systemctl restart poold.socket

section "stop"
start_client last poolctl submit sleep 2
check "a client's task runs" before_long running 1
check "the daemon stops" systemctl stop poold.service
check "after the task has ended" client_ended last 0
check "with exit status 0" property_is ExecMainStatus 0
check "and result success" property_is Result success
check "the socket is still there" says active systemctl is-active poold.socket
check "and starts the daemon again" says true poolctl submit is_prime $NUMBER
check "both stop" systemctl stop poold.socket poold.service
check "the socket is gone" test ! -e /run/poold/poold.sock

section "a user's own pool"
useradd --create-home --shell /bin/bash person
person=$(id -u person)
as_person() { runuser -u person -- env XDG_RUNTIME_DIR="/run/user/$person" "$@"; }
loginctl enable-linger person
check "the user's manager runs" before_long as_person systemctl --user is-system-running --wait
check "the socket starts" as_person systemctl --user start poold.socket
check "the first submission starts the daemon" says true as_person poolctl submit is_prime $NUMBER
check "as that user" says person stat -c %U "/proc/$(as_person systemctl --user show --value -p MainPID poold.service)"
check "it stops" as_person systemctl --user stop poold.socket poold.service
check "the socket is gone" test ! -e "/run/user/$person/poold.sock"

finish
