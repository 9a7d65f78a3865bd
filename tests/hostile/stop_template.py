#!/usr/bin/env python3
"""Executes a daemon, and stops its template when that has made its first copy and not said so yet (ptrace(2))."""

import ctypes
import os
import signal
import sys

SEIZE, CONTINUE, GET_EVENT_MESSAGE = 0x4206, 7, 0x4201
TRACE_FORK = 2
FORKED = signal.SIGTRAP | 1 << 8

libc = ctypes.CDLL(None, use_errno=True)


def ptrace(request, pid, data):
    if libc.ptrace(request, pid, None, ctypes.c_void_p(data)) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def forked_by(pid):
    message = ctypes.c_ulong()
    ptrace(GET_EVENT_MESSAGE, pid, ctypes.addressof(message))
    return message.value


def trace(daemon, ready):
    ptrace(SEIZE, daemon, TRACE_FORK)
    os.write(ready, b"x")
    template = None
    while True:
        pid, status = os.waitpid(-1, 0x40000000)
        if not os.WIFSTOPPED(status):
            continue
        if status >> 8 != FORKED:
            # A signal, or the first stop of a process that is new.
            ptrace(CONTINUE, pid, 0 if status >> 16 else os.WSTOPSIG(status))
        elif pid == daemon:
            template = forked_by(pid)
            ptrace(CONTINUE, pid, 0)
        elif pid == template:
            # It runs into this when its tracer is gone.
            os.kill(template, signal.SIGSTOP)
            return


daemon = os.getpid()
is_ready, ready = os.pipe()
child = os.fork()
if child == 0:
    # Not as a child of the daemon.
    if os.fork() == 0:
        trace(daemon, ready)
    os._exit(0)
os.waitpid(child, 0)
os.close(ready)
if os.read(is_ready, 1) != b"x":
    sys.exit("it cannot be traced")
os.execv(sys.argv[1], sys.argv[1:])
