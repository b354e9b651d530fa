"""The host's end of the conversation with a guest's agent (programs/agent.cc has the format)."""
import re
import socket
import struct
import threading

HEADER = struct.Struct("<IIB3x")
RUN, INPUT, SIGNAL, OUTPUT, ERRORS, EXIT = range(1, 7)
PAYLOAD_MAX = 64 * 1024
PIECE = 32 * 1024
HELLO = b"\xff\xff\xff\xffshunt-guest-"
ANSWER = b"\xff\xff\xff\xffshunt-host--"
NONCE = 8
SEND_LIMIT_S = 60


class ChannelBroken(Exception):
    pass


class Channel:
    """Frames over one socket. received() belongs to one thread; send() to any.

    Until the hello of a boot has come, everything is skipped: it is from the boot before.
    """

    def __init__(self, connection, on_hello, on_frame):
        self._socket = connection
        self._socket.settimeout(SEND_LIMIT_S)
        self._on_hello = on_hello
        self._on_frame = on_frame
        self._lock = threading.Lock()
        self._buffer = b""
        self._greeted = False

    def fileno(self):
        return self._socket.fileno()

    def close(self):
        self._socket.close()

    def send(self, kind, number, payload=b""):
        with self._lock:
            try:
                self._socket.sendall(HEADER.pack(len(payload), number, kind) + payload)
            except OSError as e:
                raise ChannelBroken(f"the guest takes no command: {e}") from None

    def reset(self):
        """The guest has been reset: wait for its next hello."""
        self._greeted = False

    def received(self):
        """Takes what has come; False when the other end is closed."""
        try:
            part = self._socket.recv(1 << 20, socket.MSG_DONTWAIT)
        except (BlockingIOError, TimeoutError):
            return True
        except OSError:
            return False
        self._buffer += part
        while self._step():
            pass
        return bool(part)

    def _step(self):
        if not self._greeted:
            return self._look_for_hello()
        if len(self._buffer) < HEADER.size:
            return False
        length, number, kind = HEADER.unpack_from(self._buffer)
        if length > PAYLOAD_MAX:
            self.reset()
            return True
        if len(self._buffer) < HEADER.size + length:
            return False
        payload = self._buffer[HEADER.size:HEADER.size + length]
        self._buffer = self._buffer[HEADER.size + length:]
        self._on_frame(number, kind, payload)
        return True

    def _look_for_hello(self):
        found = re.search(re.escape(HELLO) + b"(.{%d})" % NONCE, self._buffer, re.DOTALL)
        if found is None:
            self._buffer = self._buffer[-(len(HELLO) + NONCE):]
            return False
        self._buffer = self._buffer[found.end():]
        self._greeted = True
        with self._lock:
            self._socket.sendall(ANSWER + found.group(1))
        self._on_hello()
        return True
