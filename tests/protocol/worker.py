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
"""

import json
import os
import signal
import socket
import sys

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


def run(connection, attempt, function, args, payload, misbehaviour):
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
    assert function == "echo", function
    report, result = echo(args["encoding"], payload)
    connection.send("FromWorker", {"Finished": {"attempt": attempt, "report": report}}, result)


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
    connection.send("FromWorker", {"Ready": {"functions": [ECHO], "capacity": 1, "uses_page": False}})

    while True:
        try:
            message, payload = connection.receive("ToWorker")
        except EOFError:
            return
        if message == "Stop":
            return
        # An attempt starts as soon as it is read, so a Recall always comes too late.
        if "Attempt" in message:
            fields = message["Attempt"]
            run(connection, fields["attempt"], fields["function"], fields["args"], payload, misbehaviour)


if __name__ == "__main__":
    main()
