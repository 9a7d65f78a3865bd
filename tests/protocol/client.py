#!/usr/bin/env python3
"""A client of poold in Python.

    python3 tests/protocol/client.py SOCKET submit FUNCTION [ARG]...

submits a task and prints how it ended in one line: `Ok RESULT`, or the outcome's or refusal's name and its
fields in JSON. Exits with 0 if it is Ok, 1 if it is another outcome, 4 if the task was refused.
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


def submit(connection, function, args):
    """Submits a task and waits for its end: the name of its outcome, the fields, and the result."""
    spec = {
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
    payload = b"".join(os.fsencode(arg) + b"\0" for arg in args)
    body = {"Submit": {"spec": spec, "args": wire.payload_head("Args", payload)}}
    connection.send("Request", {"id": 1, "body": body}, payload)
    while True:
        reply, result = connection.receive("Reply")
        name, fields = variant(reply["body"])
        if name == "Done":
            return *variant(fields["outcome"]), result
        if name == "Refused":
            return name, fields, b""
        assert name == "Accepted", reply


def main():
    path, command, function, *args = sys.argv[1:]
    assert command == "submit", command
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.connect(path)
    connection = wire.Connection(stream, wire.CLIENT)
    welcome, _ = connection.receive("Reply")
    assert variant(welcome["body"])[0] == "Welcome", welcome

    name, fields, result = submit(connection, function, args)
    print(name, result.decode(errors="replace") if name == "Ok" else json.dumps(fields))
    return {"Ok": 0, "Refused": 4}.get(name, 1)


if __name__ == "__main__":
    sys.exit(main())
