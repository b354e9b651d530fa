"""Commands in a guest, seen from the host: like the system tests' processes, but elsewhere."""
import signal
import threading
import time

from . import channel

DEFAULT_WAIT_S = 60


class CommandFailed(Exception):
    """A command in a guest failed, or did not end or speak in time."""


class Command:
    """One running command line. Made by Guest.start(); all methods but deliver() are the test's.

    Thread safety: deliver() and lose() are called by the guest's reader thread, the rest by any other.
    """

    def __init__(self, guest, number, line):
        self.guest = guest
        self.text = line
        self._number = number
        self._changed = threading.Condition()
        self._output = b""
        self._errors = b""
        self._read = 0
        self._status = None
        self._lost = None

    # --- the guest's reader thread ---

    def deliver(self, kind, payload):
        with self._changed:
            if kind == channel.OUTPUT:
                self._output += payload
            elif kind == channel.ERRORS:
                self._errors += payload
            elif kind == channel.EXIT:
                self._status = int.from_bytes(payload, "little", signed=True)
            self._changed.notify_all()

    def lose(self, why):
        """The guest is gone, or was reset: nothing will come any more."""
        with self._changed:
            if self._status is None:
                self._lost = why
            self._changed.notify_all()

    # --- tests ---

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.end()

    def running(self):
        return self._status is None and self._lost is None

    def line(self, timeout_s=DEFAULT_WAIT_S):
        """The next line of output."""
        with self._changed:
            self._await(lambda: b"\n" in self._output[self._read:] or not self.running(), timeout_s, "no line")
            end = self._output.find(b"\n", self._read)
            if end < 0:
                raise CommandFailed(f"output ended{self._context()}")
            line = self._output[self._read:end]
            self._read = end + 1
        return line.decode(errors="replace")

    def line_with(self, text, timeout_s=DEFAULT_WAIT_S):
        """Skips lines until one contains `text`."""
        deadline = time.monotonic() + timeout_s
        while text not in (line := self.line(max(deadline - time.monotonic(), 0.001))):
            pass
        return line

    def rest(self, timeout_s=DEFAULT_WAIT_S):
        """Everything that line() has not given yet, up to the command's end, as bytes."""
        self.wait(timeout_s)
        with self._changed:
            data = self._output[self._read:]
            self._read = len(self._output)
        return data

    def give(self, data):
        """Bytes for the command's stdin (started with stdin="hold")."""
        for at in range(0, len(data), channel.PIECE):
            self.guest.send(channel.INPUT, self._number, data[at:at + channel.PIECE])

    def release(self):
        """Ends the command's stdin."""
        self.guest.send(channel.INPUT, self._number)

    def wait(self, timeout_s=DEFAULT_WAIT_S):
        """The exit status, negative for a signal."""
        with self._changed:
            self._await(lambda: not self.running(), timeout_s, "still running")
            if self._lost is not None:
                raise CommandFailed(f"{self._lost}{self._context()}")
            return self._status

    def succeed(self, timeout_s=DEFAULT_WAIT_S):
        """Waits for exit status 0; everything that the command wrote to stdout, as bytes."""
        status = self.wait(timeout_s)
        if status != 0:
            raise CommandFailed(f"exit status {status}{self._context()}")
        return self._output

    def errors(self):
        return self._errors.decode(errors="replace")

    def kill(self, number=signal.SIGKILL):
        """Signals the command's process group."""
        if self.running():
            self.guest.send(channel.SIGNAL, self._number, bytes([number]))

    def end(self, timeout_s=10):
        """SIGTERM, and SIGKILL a second later. A guest that is gone or stopped is no error."""
        for number, patience_s in ((signal.SIGTERM, 1.0), (signal.SIGKILL, timeout_s)):
            try:
                self.kill(number)
                self.wait(patience_s)
                return
            except (CommandFailed, channel.ChannelBroken):
                if not self.running():
                    return

    def _await(self, condition, timeout_s, what):
        if not self._changed.wait_for(condition, timeout_s):
            raise CommandFailed(f"{what} within {timeout_s} s{self._context()}{self.guest.console_tail()}")

    def _context(self):
        parts = [f"\n  guest {self.guest.name}: {self.text}"]
        for name, data in (("output", self._output), ("stderr", self._errors)):
            parts += [f"\n  {name}: {line}" for line in data.decode(errors="replace").splitlines()[-10:]]
        return "".join(parts)
