"""The two programs of limits.py: plain sockets under a limit of the process.

limits.py serve HOST LIMIT VALUE COUNT    answers a byte on each of COUNT connections; at EMFILE it closes the oldest
limits.py ask HOST PORT LIMIT VALUE COUNT makes COUNT connections, or as many as it may have, and reads all answers
LIMIT is none, descriptors, addresses (bytes), file-size (bytes) or locked (all memory, now and later).
"""
import ctypes
import errno
import resource
import socket
import sys

LIMITS = {"descriptors": resource.RLIMIT_NOFILE, "addresses": resource.RLIMIT_AS,
          "file-size": resource.RLIMIT_FSIZE}
PATIENCE_S = 30
LOCK_ALL = 3  # MCL_CURRENT | MCL_FUTURE


def limit(name, value):
    if name == "locked":
        if ctypes.CDLL(None, use_errno=True).mlockall(LOCK_ALL) != 0:
            print("unavailable", flush=True)
            sys.exit(77)
    elif name != "none":
        resource.setrlimit(LIMITS[name], (int(value), int(value)))


def serve(host, name, value, count):
    limit(name, value)
    listener = socket.create_server((host, 0), backlog=1000)
    listener.settimeout(PATIENCE_S)
    print("port", listener.getsockname()[1], flush=True)
    open_ones, answered, full = [], 0, False
    while answered < int(count):
        try:
            connection, _ = listener.accept()
        except OSError as error:
            if error.errno != errno.EMFILE or not open_ones:
                raise
            full = True
            open_ones.pop(0).close()
            continue
        connection.sendall(connection.recv(1))
        open_ones.append(connection)
        answered += 1
    print("answered", answered, "full" if full else "never full", flush=True)
    sys.stdin.read()


def ask(host, port, name, value, count):
    limit(name, value)
    open_ones = []
    try:
        for _ in range(int(count)):
            connection = socket.create_connection((host, int(port)), PATIENCE_S)
            open_ones.append(connection)
            connection.sendall(b"x")
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
    lost = sum(connection.recv(1) != b"x" for connection in open_ones)
    print("connected", len(open_ones), "lost", lost, flush=True)
    sys.stdin.read()


{"serve": serve, "ask": ask}[sys.argv[1]](*sys.argv[2:])
