"""A client program that lives long and opens connections on request (run it under Shunt).

For each line "HOST PORT" on stdin: connects, sends "PING\\r\\n", prints "ok ANSWER" or "error ENAME".
"keep" as a third word keeps the connection open for the rest of the program's life.
"""
import errno
import socket
import sys

kept = []
for line in sys.stdin:
    host, port, *how = line.split()
    try:
        connection = socket.create_connection((host, int(port)), timeout=20)
        connection.sendall(b"PING\r\n")
        print("ok", connection.recv(100).decode().strip(), flush=True)
        if how == ["keep"]:
            kept.append(connection)
        else:
            connection.close()
    except TimeoutError:
        print("error TIMEOUT", flush=True)
    except OSError as e:
        print("error", errno.errorcode.get(e.errno, e.errno), flush=True)
