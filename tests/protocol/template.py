#!/usr/bin/env python3
"""A template whose copy speaks on a worker's socket, and which does not answer; as a worker, a process that exits."""

import os
import socket
import sys
import time

if "POOLD_TEMPLATE" not in os.environ:
    sys.exit(3)
daemon = socket.socket(fileno=0)
files = []
# The memory that says what the copy is to be, and its standard streams.
while len(files) != 4:
    _, files, _, _ = socket.recv_fds(daemon, 1 << 20, 4)
os.write(files[1], b"this is no handshake of a worker")
time.sleep(1000)
