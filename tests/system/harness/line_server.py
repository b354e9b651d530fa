"""A server that greets, takes lines up to "end", and answers with their number, hash and a lot of text.

line_server.py HOST PORT     (run it under Shunt; says "ready" when it listens; serves until killed)
"""
import hashlib
import socket
import sys

listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
while True:
    connection, _ = listener.accept()
    with connection, connection.makefile("rb") as lines:
        connection.sendall(b"welcome\nto the line server\n")
        count, digest = 0, hashlib.sha256()
        for line in lines:
            count += 1
            digest.update(line)
            if line == b"end\n":
                break
        answer = f"{count} lines, {digest.hexdigest()}\n"
        connection.sendall(answer.encode() + b"".join(b"line %d\n" % i for i in range(40_000)))
