"""Both ends of a connection, in one process, for connection.py: stops in the middle of an exchange.

Descriptors: 100 the end that connected, 101 the end that accepted, 102 the listener.
"""
import os
import signal
import socket


def renumber(sock, fd):
    os.dup2(sock.fileno(), fd)
    sock.close()
    return socket.socket(fileno=fd)


listener = renumber(socket.create_server(("127.0.0.1", 0)), 102)
client = socket.create_connection(listener.getsockname())
server, _ = listener.accept()
client, server = renumber(client, 100), renumber(server, 101)
print("ports", client.getsockname()[1], listener.getsockname()[1], flush=True)
client.sendall(b"x" * 100_000)  # two segments
assert len(server.recv(400)) == 400
signal.raise_signal(signal.SIGTRAP)  # gdb looks
assert len(server.recv(99_600, socket.MSG_WAITALL)) == 99_600
server.recv(1)  # nothing comes: it falls asleep
