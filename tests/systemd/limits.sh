#!/bin/bash
# What holds a worker where the kernel enforces control groups. Runs as root in a machine of its own; run.sh puts
# it there. Prints a line per check, and the evidence; ends with 1 if a check failed.
set -uo pipefail

# shellcheck source=tests/systemd/checks.sh
. "$(dirname "$0")/checks.sh"

GROUP=/sys/fs/cgroup/system.slice/poold.service
PROCESSES=40

groups() { ls -d "$GROUP"/workers.*/*/ 2> /dev/null | wc -l; }
groups_are() { says "$1" groups; }
one_runs() { pgrep -fx "$1" > /dev/null; }
none_runs() { ! pgrep -f "$1" > /dev/null; }
limits() { status 's["limits"]'; }
most_processes() { cat "$GROUP"/workers.*/*/pids.peak "$GROUP"/workers.*/*/pids.current 2> /dev/null | sort -n | tail -n 1; }

cat > $CONFIG << END
allow_fault_injection = true
[pool.cpu]
workers = 2
grace = "200ms"
memory = "64 MiB"
processes = $PROCESSES
END
systemctl daemon-reload
systemctl start poold.socket

section "a control group for each worker"
check "the first submission is answered" says true poolctl submit is_prime $NUMBER
limits
check "memory and processes are limited by control group" matches "memory by cgroup; processes by cgroup" <(limits)
check "the daemon is in a group of its own" grep -q "/poold.service/supervisor$" "/proc/$(daemon)/cgroup"
check "each worker is" groups_are 2
for pid in $(workers); do cat "/proc/$pid/cgroup"; done
head "$GROUP"/workers.*/*/memory.max "$GROUP"/workers.*/*/pids.max

section "a worker that runs out of memory"
old=$(daemon)
start_client undisturbed poolctl submit sleep 10
check "a client's task runs on the other worker" before_long running 1
undisturbed=$(status '[w["pid"] for w in s["workers"] if w["task"]][0]')
check "the attempt ends with the status of KILL" ends 137 poolctl submit hog 200000000
poolctl submit hog 200000000 2> "$scratch/hog.err"
cat "$scratch/hog.err"
check "and is said to have run out of memory" matches "ran out of memory (memory = 64 MiB)" "$scratch/hog.err"
check "in the log too" before_long journal_has "want of memory (memory = 64 MiB)"
journalctl --no-pager -q -k --since "$since" | grep -i "oom\|killed process" | tail -n 4
check "there is a new worker" before_long groups_are 2
check "which is as good" says true poolctl submit is_prime $NUMBER
check "what fits is not killed" says 20000000 poolctl submit hog 20000000
check "a killed one that had memory is not said to have run out of it" \
    bash -c 'poolctl submit crash abort 2>&1 | grep "SIGABRT"'
check "the other worker is the same" test -d "/proc/$undisturbed"
check "its task has ended well" client_ended undisturbed 0
check "the daemon is the same" says "$old" daemon

section "a fork bomb"
start_client undisturbed poolctl submit sleep 10
check "a client's task runs on the other worker" before_long running 1
poolctl submit fork_bomb 1000
check "it starts fewer than that" bash -c "[ \$(poolctl submit fork_bomb 1000) -lt $PROCESSES ]"
start_client bomb poolctl run --timeout 3s -- bash -c 'bomb() { bomb | bomb & }; bomb; while :; do bomb; done'
check "one that never stops runs" before_long running 2
sleep 1
echo "most processes in a worker's group: $(most_processes)"
check "it has no more processes than it may" test "$(most_processes)" -le $PROCESSES
check "it ends when its time is over" client_ended bomb 124
check "nothing is left of it" before_long none_runs "bomb()"
check "nor of its group" before_long groups_are 2
check "both workers are ready" before_long says 2 status 'sum(p["ready"] for p in s["pools"])'
check "the other task has ended well" client_ended undisturbed 0
check "the daemon is the same" says "$old" daemon
check "and answers" says true poolctl submit is_prime $NUMBER

section "a process that gets away"
poolctl run -- setsid -f sleep 4711
check "ends with its attempt" before_long none_runs "sleep 4711"
poolctl submit stray
start_client away poolctl run -- bash -c 'setsid -f sleep 4712; sleep 4713'
check "one runs" before_long one_runs "sleep 4712"
worker=$(status '[w["pid"] for w in s["workers"] if w["task"]][0]')
kill -KILL "$worker"
check "ends with its worker" before_long none_runs "sleep 471[23]"
check "which was killed, for no want of memory" client_ended away 125
cat "$scratch/away.err"

section "a daemon that is killed"
start_client away poolctl run -- bash -c 'setsid -f sleep 4714; sleep 4715'
check "a process gets away" before_long one_runs "sleep 4714"
systemctl kill --kill-who=main -s KILL poold.service
check "it ends with the daemon" before_long none_runs "sleep 471[45]"
check "another daemon answers" before_long says true poolctl submit is_prime $NUMBER
check "which is not the old one" daemon_is_not "$old"
check "and has groups for its workers" before_long groups_are 2
limits
check "the old one's are gone" says 1 bash -c "ls -d $GROUP/workers.* | wc -l"
check "it stops" systemctl stop poold.socket poold.service
check "and nothing is left" test ! -e $GROUP

finish
