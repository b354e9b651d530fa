"""The server behind ivshmem-doorbell devices: hands out the memory and everybody's doorbells.

QEMU's documented protocol (docs/specs/ivshmem-spec.txt, "ivshmem client-server protocol"): messages of
one signed 64-bit little-endian number, most with a descriptor. A newcomer gets the version (0), its
own number, -1 with the memory, then for each peer and at last for itself the number with one
eventfd for each vector. Peers get the newcomer's; of one that has gone they get the bare number.
"""
import array
import os
import selectors
import socket
import struct
import threading

VERSION = 0
MEMORY = -1


class DoorbellServer:
    """Serves on a unix socket until close(). No number is given twice: when one comes back, the other QEMUs (7.2)
    write into memory that they freed when it went (hw/misc/ivshmem.c, close_peer_eventfds), and end."""

    def __init__(self, path, memory_path, vectors=1):
        self.path = path
        self._vectors = vectors
        self._memory = os.open(memory_path, os.O_RDWR | os.O_CLOEXEC)
        self._next = 0
        self._peers = {}  # number -> (connection, eventfds)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._stop, self._stopped = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._stopped, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self):
        self._stop.send(b"x")
        self._thread.join()
        for number in list(self._peers):
            self._forget(number)
        for thing in (self._listener, self._stop, self._stopped, self._selector):
            thing.close()
        os.close(self._memory)

    def _serve(self):
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._stopped:
                    return
                if key.fileobj is self._listener:
                    self._welcome(self._listener.accept()[0])
                elif not _alive(key.fileobj):
                    self._forget(key.data)

    def _welcome(self, connection):
        number = self._next
        self._next += 1
        eventfds = [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(self._vectors)]
        _tell(connection, VERSION)
        _tell(connection, number)
        _tell(connection, MEMORY, self._memory)
        for other, (its_connection, its_eventfds) in self._peers.items():
            for fd in its_eventfds:
                _tell(connection, other, fd)
            for fd in eventfds:
                _tell(its_connection, number, fd)
        for fd in eventfds:
            _tell(connection, number, fd)
        self._peers[number] = (connection, eventfds)
        self._selector.register(connection, selectors.EVENT_READ, number)

    def _forget(self, number):
        connection, eventfds = self._peers.pop(number)
        self._selector.unregister(connection)
        connection.close()
        for fd in eventfds:
            os.close(fd)
        for its_connection, _ in self._peers.values():
            _tell(its_connection, number)


def _tell(connection, number, fd=None):
    rights = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
    try:
        connection.sendmsg([struct.pack("<q", number)], rights)
    except OSError:
        pass  # it is gone; its end of stream says so


def _alive(connection):
    try:
        return bool(connection.recv(64))
    except OSError:
        return False
