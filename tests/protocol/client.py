#!/usr/bin/env python3
"""A client of poold in Python.

    python3 tests/protocol/client.py SOCKET submit FUNCTION [ARG]...
    python3 tests/protocol/client.py SOCKET map FUNCTION ARG...

submits a task, or one for each argument, and prints how each ended in one line: `Ok RESULT`, or the outcome's or
refusal's name and its fields in JSON. Exits with 0 if all are Ok, 4 if a task was refused, 1 otherwise.
"""

import json
import os
import socket
import sys

sys.dont_write_bytecode = True  # the repository is no place for it
import wire


def variant(value):
    """The name of a variant and its fields, if it has any."""
    return (value, None) if isinstance(value, str) else next(iter(value.items()))


def spec_of(function):
    return {
        "function": function,
        "pool": None,
        "priority": 0,
        "timeout": None,
        "deadline": None,
        "retries": 0,
        "delay": None,
        "attachment": "Attached",
        "report_start": False,
    }


def in_args(args):
    """Arguments in the encoding `Args`."""
    return b"".join(os.fsencode(arg) + b"\0" for arg in args)


def submit(connection, function, args):
    """Submits a task with these arguments and gives how it ended, in a list."""
    payload = in_args(args)
    body = {"Submit": {"spec": spec_of(function), "args": wire.payload_head("Args", payload)}}
    connection.send("Request", {"id": 1, "body": body}, payload)
    return outcomes(connection, 1)


def submit_all(connection, function, args):
    """Submits a task for each argument, all at once, and gives how each ended, in their order."""
    payloads = wire.join_payloads([in_args([arg]) for arg in args])
    body = {"SubmitAll": {"spec": spec_of(function), "args": {"encoding": "Args", "count": len(args)}}}
    connection.send("Request", {"id": 1, "body": body}, payloads)
    return outcomes(connection, len(args))


def outcomes(connection, count):
    """Waits for the ends of the tasks of so many requests, numbered from 1: of each the name of its outcome, the fields,
    and the result."""
    ended = {}
    while len(ended) < count:
        reply, payload = connection.receive("Reply")
        first, (name, fields) = reply["request"], variant(reply["body"])
        if name == "Done":
            ended[first] = *variant(fields["outcome"]), payload
        elif name == "AllDone":
            results = wire.split_payloads(payload, fields["results"]["count"])
            ended.update((first + index, ("Ok", None, result)) for index, result in enumerate(results))
        elif name == "Refused":
            ended[first] = name, fields, b""
        else:
            assert name in ("Accepted", "AllAccepted"), reply
    return [ended[request] for request in range(1, count + 1)]


def main():
    path, command, function, *args = sys.argv[1:]
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.connect(path)
    connection = wire.Connection(stream, wire.CLIENT)
    welcome, _ = connection.receive("Reply")
    assert variant(welcome["body"])[0] == "Welcome", welcome

    ended = {"submit": submit, "map": submit_all}[command](connection, function, args)
    for name, fields, result in ended:
        print(name, result.decode(errors="replace") if name == "Ok" else json.dumps(fields))
    return max({"Ok": 0, "Refused": 4}.get(name, 1) for name, _, _ in ended)


if __name__ == "__main__":
    sys.exit(main())
