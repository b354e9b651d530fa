"""A client that lets other programs use its connection, and says what it and they have seen.

parent.py HOST PORT WAY BARE     (run it under Shunt, against a server that sends everything back)
WAY: subprocess (the connection as the child's stdin and stdout), leak (children that only inherit it), or
cloexec (children that do not). BARE: 1 for an empty environment. It waits for the end of its stdin when done.
"""
import hashlib
import os
import socket
import subprocess
import sys

host, port, way, bare = sys.argv[1:]
environment = {"PATH": os.environ["PATH"]} if bare == "1" else None
connection = socket.create_connection((host, int(port)), timeout=30)
connection.settimeout(None)


def say(*words):
    print(*words, flush=True)


def take(size):
    data = b""
    while len(data) < size and (part := connection.recv(size - len(data))):
        data += part
    return hashlib.sha256(data).hexdigest()[:16]


def run(program, **options):
    done = subprocess.run(["/bin/sh", "-c", program], env=environment, check=False, **options)
    say(program, done.returncode)


connection.sendall(bytes(100_000))
say("before", take(60_000))  # 40 000 bytes are still to be read, by whoever comes
if way == "subprocess":
    run("head -c 39990 | sha256sum >&2", stdin=connection, stdout=connection, stderr=sys.stdout)
    run("seq 1 20000", stdin=connection, stdout=connection)
    say("rest", take(10 + len("".join(f"{i}\n" for i in range(1, 20001)))))
elif way == "leak":
    connection.set_inheritable(True)
    for _ in range(3):
        run("true", close_fds=False)
        os.system("true")
    say("rest", take(40_000))
else:
    for _ in range(3):
        run("true", close_fds=False)
        os.system("true")
    say("rest", take(40_000))
connection.sendall(bytes(200_000))
say("after", take(200_000))
assert connection.getpeername() == (host, int(port)), connection.getpeername()
connection.shutdown(socket.SHUT_WR)
say("end", connection.recv(1))
sys.stdin.read()
