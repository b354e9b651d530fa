"""An inetd: for each connection a child runs the given program with the connection as 0, 1 and 2.

inetd.py HOST PORT PROGRAM ARGUMENT...     (run it under Shunt; says "ready" when it listens)
"""
import os
import signal
import socket
import sys

host, port, *command = sys.argv[1:]
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
listener = socket.create_server((host, int(port)))
print("ready", flush=True)
while True:
    connection, _ = listener.accept()
    if os.fork() == 0:
        for number in (0, 1, 2):
            os.dup2(connection.fileno(), number)
        os.execvp(command[0], command)
    connection.close()
