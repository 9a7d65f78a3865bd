#!/usr/bin/env python3
"""A worker of poold in Python, to be a pool's `command`.

    worker.py [MISBEHAVIOUR]

It has one function, `echo`, which gives its arguments back, joined by spaces. Without a misbehaviour it does
all that docs/PROTOCOL.md asks of a worker. With one:

    never-ready           never says Ready
    exit-before-ready N   exits with status N instead
    garbage               answers its first attempt with bytes that are no frame, and hangs
    close                 closes its socket at its first attempt, and hangs
    ignore-term           ignores TERM, and hangs in its first attempt
    end-sentinel          ends the thread that is its sentinel in its first attempt, and hangs
    survive-sentinel FIFO ends its sentinel in its first attempt, reads the FIFO, finishes the attempt, and exits
    foreign-sentinel      names another process as its sentinel, and ends that in its first attempt
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading

sys.dont_write_bytecode = True  # the repository is no place for it
import wire

ECHO = {"name": "echo", "signature": "echo(TEXT...) -> string", "summary": "Gives back its arguments."}


def echo(encoding, payload):
    """The report of an attempt, and its result."""
    if encoding == "Args":
        args = [arg.decode() for arg in payload.split(b"\0")[:-1]]
    elif encoding == "Json":
        args = [str(arg) for arg in json.loads(payload)]
    else:
        failure = {"kind": "BadArguments", "message": f"echo reads Args and Json, not {encoding}", "location": None}
        return {"Failed": failure}, b""
    result = json.dumps(" ".join(args)).encode()
    return {"Ok": wire.payload_head("Json", result)}, result


def hang():
    while True:
        signal.pause()


class Thread:
    """A thread that does nothing until it is ended."""

    def __init__(self):
        self.ends = threading.Event()
        self.thread = threading.Thread(target=self.ends.wait)
        self.thread.start()
        self.id = self.thread.native_id

    def end(self):
        self.ends.set()
        self.thread.join()


class Process:
    """Another process that does nothing until it is ended."""

    def __init__(self):
        self.process = subprocess.Popen(["sleep", "1000"])
        self.id = self.process.pid

    def end(self):
        self.process.kill()
        self.process.wait()


SENTINELS = {"end-sentinel": Thread, "survive-sentinel": Thread, "foreign-sentinel": Process}


def run(connection, attempt, function, args, payload, misbehaviour, sentinel):
    """Runs one attempt, or misbehaves at it."""
    if misbehaviour == "garbage":
        connection.send_bytes(b"\xff" * 64)
        hang()
    if misbehaviour == "close":
        connection.socket.close()
        hang()
    connection.send("FromWorker", {"Started": {"attempt": attempt}})
    if misbehaviour == "ignore-term":
        hang()
    if sentinel:
        sentinel.end()
    if misbehaviour == "end-sentinel":
        hang()
    if misbehaviour == "survive-sentinel":
        with open(sys.argv[2]) as fifo:
            fifo.read()
    assert function == "echo", function
    report, result = echo(args["encoding"], payload)
    connection.send("FromWorker", {"Finished": {"attempt": attempt, "report": report}}, result)
    if misbehaviour == "survive-sentinel":
        sys.exit()


def main():
    misbehaviour, *rest = sys.argv[1:] or [None]
    stream = socket.socket(fileno=int(os.environ["POOLD_WORKER_FD"]))
    stream.set_inheritable(False)
    if misbehaviour == "ignore-term":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    connection = wire.Connection(stream, wire.WORKER)
    setup, _ = connection.receive("ToWorker")
    assert "Setup" in setup, setup
    if misbehaviour == "never-ready":
        hang()
    if misbehaviour == "exit-before-ready":
        sys.exit(int(rest[0]))
    sentinel = SENTINELS[misbehaviour]() if misbehaviour in SENTINELS else None
    ready = {"functions": [ECHO], "capacity": 1, "uses_page": False, "sentinel": sentinel and sentinel.id}
    connection.send("FromWorker", {"Ready": ready})

    while True:
        try:
            message, payload = connection.receive("ToWorker")
        except EOFError:
            return
        if message == "Stop":
            return
        # An attempt starts as soon as it is read, so a Recall always comes too late. Without the page there are no Attempts.
        if "Attempt" in message:
            fields = message["Attempt"]
            run(connection, fields["attempt"], fields["function"], fields["args"], payload, misbehaviour, sentinel)


if __name__ == "__main__":
    main()
