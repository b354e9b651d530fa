"""The programs of churn.py: many short connections, of which each carries as much as it asks for.

churn.py FORM SECONDS   FORM: workers (four forked ones accept), forking (a child for each), threads, or client-forks
                        (threads, and the client forks all the time). Prints "done COUNT" or what went wrong.
"""
import os
import random
import signal
import socket
import sys
import threading
import time

SIZES = [0, 1, 5, 100, 5000, 70_000, 300_001]
CLIENTS = 6
PATIENCE_S = 30


def answer(connection):
    try:
        size = int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "big")
        connection.sendall(b"z" * size)
        if size % 2:
            connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the client has closed at once
    connection.close()


def serve(listener, form):
    if form == "forking":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listener.accept()
        if form == "workers":
            answer(connection)
        elif form == "forking":
            if os.fork() == 0:
                answer(connection)
                os._exit(0)
            connection.close()
        else:
            threading.Thread(target=answer, args=(connection,)).start()


def start_servers(listener, form):
    children = []
    for _ in range(4 if form == "workers" else 1):
        child = os.fork()
        if child == 0:
            serve(listener, form)
        children.append(child)
    return children


class Client(threading.Thread):
    def __init__(self, address, seed, until):
        super().__init__()
        self.address, self.until = address, until
        self.random = random.Random(seed)
        self.done, self.wrong = 0, []

    def run(self):
        while time.monotonic() < self.until:
            size, got = self.random.choice(SIZES), 0
            try:
                with socket.create_connection(self.address, PATIENCE_S) as connection:
                    connection.sendall(size.to_bytes(4, "big"))
                    if self.random.random() < 0.1:
                        continue
                    while piece := connection.recv(65536):
                        got += len(piece)
                if got != size:
                    self.wrong.append(f"{got} of {size} bytes")
                self.done += 1
            except OSError as error:
                self.wrong.append(f"{error}, after {got} of {size} bytes")


def fork_until(until):
    while time.monotonic() < until:
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)


def main():
    form, seconds = sys.argv[1], float(sys.argv[2])
    listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
    children = start_servers(listener, form)
    until = time.monotonic() + seconds
    clients = [Client(listener.getsockname(), seed, until) for seed in range(CLIENTS)]
    others = [threading.Thread(target=fork_until, args=(until,))] if form == "client-forks" else []
    for thread in clients + others:
        thread.start()
    for thread in clients + others:
        thread.join()
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    wrong = [each for client in clients for each in client.wrong]
    print("; ".join(wrong[:5]) if wrong else f"done {sum(client.done for client in clients)}", flush=True)


main()
