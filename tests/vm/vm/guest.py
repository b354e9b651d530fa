"""One guest: booted, commanded, paused, killed, booted again."""
import select
import shlex
import signal
import threading
import time

from .channel import RUN, Channel, ChannelBroken
from .commands import DEFAULT_WAIT_S, Command
from .failure import GuestFailed
from .machine import Machine, wait_until

BOOT_LIMIT_S = 60


class Guest:
    """A guest of Guests. `hardware`: a call that gives machine.Hardware for a launch."""

    def __init__(self, index, name, address, hardware, console):
        self.index = index
        self.name = name
        self.address = address
        self.boot_s = None  # how long the last boot took, from QEMU's start or the reset
        self._hardware = hardware
        self._console = console
        self._machine = None
        self._channel = None
        self._reader = None
        self._stop_reading = None
        self._lock = threading.Lock()
        self._commands = {}
        self._next = 0
        self._started = 0.0
        self._up = threading.Event()

    # --- life ---

    def launch(self):
        """Starts QEMU; await_boot() waits for the guest's agent."""
        if self._machine is not None:
            self.kill()
        hardware, close = self._hardware()
        self._begin_boot()
        try:
            self._machine = Machine(hardware, self._console, self._on_event)
        finally:
            close()
        self._channel = Channel(self._machine.control, self._on_hello, self._on_frame)
        self._reader = threading.Thread(target=self._read, args=(self._machine, self._channel), daemon=True)
        self._reader.start()

    def await_boot(self, limit_s=BOOT_LIMIT_S):
        machine = self._machine

        def over():
            return self._up.is_set() or not machine.running() or machine.panicked()

        wait_until(over, limit_s)
        if self._up.is_set():
            return
        if not machine.running():
            raise GuestFailed(f"{self.name}: QEMU has ended{machine.tail()}")
        what = "kernel panic" if machine.panicked() else f"no sign of init within {limit_s} s"
        raise GuestFailed(f"{self.name}: {what}{machine.tail()}")

    def boot(self, limit_s=BOOT_LIMIT_S):
        """Boots a guest that was killed."""
        self.launch()
        self.await_boot(limit_s)

    def kill(self):
        """SIGKILL of its QEMU: as if the power had failed. Commands in it are lost."""
        if self._machine is None:
            return
        self._machine.kill()
        self._reader.join()
        self._machine.close()
        self._machine = None

    def reset(self):
        """Presses the reset button; returns at once. Commands in it are lost."""
        self._begin_boot()
        self._monitor().execute("system_reset")

    def reboot(self, limit_s=BOOT_LIMIT_S):
        self.reset()
        self.await_boot(limit_s)

    def pause(self):
        """Stops the guest's processor and clock, as `virsh suspend` does."""
        self._monitor().execute("stop")

    def resume(self):
        self._monitor().execute("cont")

    def freeze(self):
        """SIGSTOP of its QEMU: time goes on in the guest's clock, nothing else does."""
        self._monitor().signal(signal.SIGSTOP)

    def thaw(self):
        self._monitor().signal(signal.SIGCONT)

    def running(self):
        return self._machine is not None and self._machine.running()

    @property
    def pid(self):
        """Of its QEMU."""
        return self._monitor().pid

    # --- commands ---

    def start(self, line, stdin=None, environment=None):
        """Starts a command line (a string for the guest's shell, or an argument list).

        stdin: None (empty), "hold" (give() and release() later), or bytes.
        """
        text = line if isinstance(line, str) else shlex.join(line)
        text = "".join(f"export {k}={shlex.quote(v)}; " for k, v in (environment or {}).items()) + text
        with self._lock:
            if self._channel is None or not self._up.is_set():
                raise GuestFailed(f"{self.name}: not running, cannot start: {text}")
            self._next += 1
            number = self._next
            command = self._commands[number] = Command(self, number, text)
        self.send(RUN, number, bytes([stdin is not None]) + text.encode())
        if isinstance(stdin, bytes):
            command.give(stdin)
            command.release()
        return command

    def run(self, line, timeout_s=DEFAULT_WAIT_S, stdin=None, environment=None):
        """Runs a command line that must succeed; what it wrote to stdout, as text."""
        return self.run_bytes(line, timeout_s, stdin, environment).decode(errors="replace")

    def run_bytes(self, line, timeout_s=DEFAULT_WAIT_S, stdin=None, environment=None):
        with self.start(line, stdin, environment) as command:
            return command.succeed(timeout_s)

    def put(self, path, data, mode=0o644):
        """Writes a file in the guest."""
        quoted = shlex.quote(path)
        self.run(f"cat >{quoted} && chmod {mode:o} {quoted}", stdin=data)

    def get(self, path):
        """Reads a file in the guest."""
        return self.run_bytes(f"cat {shlex.quote(path)}")

    def send(self, kind, number, payload=b""):
        """For commands."""
        channel = self._channel
        if channel is None:
            raise ChannelBroken(f"{self.name} is not running")
        channel.send(kind, number, payload)

    def console_tail(self):
        return self._machine.tail() if self._machine is not None else ""

    # --- inside ---

    def _monitor(self):
        if self._machine is None:
            raise GuestFailed(f"{self.name} is not running")
        return self._machine

    def _begin_boot(self):
        self._up.clear()
        self._started = time.monotonic()
        self._lose_commands("the guest was reset")

    def _lose_commands(self, why):
        with self._lock:
            commands, self._commands = self._commands, {}
        for command in commands.values():
            command.lose(f"{self.name}: {why}")

    # From here on: the reader thread.

    def _read(self, machine, channel):
        poller = select.poll()
        poller.register(machine.qmp, select.POLLIN)
        poller.register(machine.control, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poller.poll()}
            if machine.qmp.fileno() in ready and not machine.take_qmp():
                break  # a reset is seen here before anything that the new boot says
            if machine.control.fileno() in ready and not channel.received():
                break
        self._up.clear()
        with self._lock:
            self._channel = None
        self._lose_commands("its QEMU has ended")

    def _on_event(self, event):
        if event == "RESET":
            self._begin_boot()
            self._channel.reset()

    def _on_hello(self):
        self.boot_s = time.monotonic() - self._started
        self._up.set()

    def _on_frame(self, number, kind, payload):
        with self._lock:
            command = self._commands.get(number)
        if command is not None:
            command.deliver(kind, payload)
            if not command.running():
                with self._lock:
                    self._commands.pop(number, None)
