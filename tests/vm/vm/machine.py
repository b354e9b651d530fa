"""One QEMU process: its command line, its monitor (QMP), its console."""
import collections
import json
import os
import signal
import socket
import subprocess
import threading
import time

from harness import run_id

from .failure import GuestFailed, Unavailable

QEMU = "qemu-system-x86_64"
QMP_LIMIT_S = 30
TAIL_LINES = 25

# What one guest is made of. `extra`: more QEMU arguments; `fds`: descriptors that they name.
Hardware = collections.namedtuple("Hardware", "name accel kernel initrd append memory machine extra fds")


def arguments(hardware, control_fd, qmp_fd, console):
    # The emulation of `rep movsb` moves byte after byte, 6 times slower than other copies, which no processor does.
    # Without these two nobody takes it for fast, neither libc nor the guest's TCP.
    cpu = "max,-erms,-fsrm" if hardware.accel.startswith("tcg") else "max"
    machine = ",".join(["q35"] + [f"{k}={v}" for k, v in hardware.machine.items()])
    return [
        QEMU, "-name", hardware.name, "-machine", machine, "-accel", hardware.accel, "-cpu", cpu,
        "-smp", "1", "-m", hardware.memory, "-nodefaults", "-no-user-config", "-nographic",
        "-kernel", hardware.kernel, "-initrd", hardware.initrd,
        "-append", hardware.append,
        "-chardev", f"file,id=console,path={console},append=on", "-serial", "chardev:console",
        "-chardev", f"socket,id=qmp,fd={qmp_fd}", "-mon", "chardev=qmp,mode=control",
        "-device", "virtio-serial-pci,id=ports,max_ports=16",
        "-chardev", f"socket,id=control,fd={control_fd}",
        "-device", "virtserialport,bus=ports.0,chardev=control,name=control",
        *hardware.extra]


class Machine:
    """A running QEMU. The owner's reader calls take_qmp() when the monitor's socket is readable.

    Thread safety: take_qmp() belongs to one thread; the rest to any.
    """

    def __init__(self, hardware, console, on_event):
        self.name = hardware.name
        self._console = console
        self._on_event = on_event
        self._replies = collections.deque()
        self._replied = threading.Condition()
        self._qmp_buffer = b""
        self._qmp_turn = threading.Lock()
        self._qmp_ended = False
        self.control, control_far = socket.socketpair()
        self.qmp, qmp_far = socket.socketpair()
        self._errors = console + ".qemu"
        try:
            with open(self._errors, "ab") as errors:
                self._popen = subprocess.Popen(
                    arguments(hardware, control_far.fileno(), qmp_far.fileno(), console),
                    stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, start_new_session=True,
                    pass_fds=[control_far.fileno(), qmp_far.fileno(), *hardware.fds],
                    env=dict(os.environ, SHUNT_TEST_RUN=run_id.ID, LC_ALL="C"))
        except FileNotFoundError:
            raise Unavailable(f"{QEMU} is missing: install qemu-system-x86") from None
        finally:
            control_far.close()
            qmp_far.close()
        self.pid = self._popen.pid
        run_id.note_group(self.pid)
        self.qmp.sendall(b'{"execute": "qmp_capabilities"}\n')
        self._pending = 1

    def running(self):
        return self._popen.poll() is None

    def signal(self, number):
        self._popen.send_signal(number)

    def kill(self):
        """SIGKILL; returns when the process is gone."""
        if self._popen.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait(QMP_LIMIT_S)

    def close(self):
        self.kill()
        self.control.close()
        self.qmp.close()

    def execute(self, command, **arguments_):
        """One monitor command; its answer."""
        with self._qmp_turn, self._replied:
            self._await_replies(self._pending, command)
            request = {"execute": command}
            if arguments_:
                request["arguments"] = arguments_
            self._pending = 1
            self.qmp.sendall(json.dumps(request).encode() + b"\n")
            reply = self._await_replies(1, command)
        if "error" in reply:
            raise GuestFailed(f"{self.name}: monitor: {command}: {reply['error'].get('desc')}")
        return reply["return"]

    def _await_replies(self, count, command):
        reply = None
        for _ in range(count):
            if not self._replied.wait_for(lambda: self._replies or self._qmp_ended, QMP_LIMIT_S):
                raise GuestFailed(f"{self.name}: monitor: no answer to {command}{self.tail()}")
            if not self._replies:
                raise GuestFailed(f"{self.name}: QEMU has ended{self.tail()}")
            reply = self._replies.popleft()
            self._pending -= 1
        return reply

    def take_qmp(self):
        """Reads what the monitor says; False at its end."""
        try:
            part = self.qmp.recv(1 << 16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            part = b""
        self._qmp_buffer += part
        *lines, self._qmp_buffer = self._qmp_buffer.split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "event" in message:
                self._on_event(message["event"])
            elif "return" in message or "error" in message:
                with self._replied:
                    self._replies.append(message)
                    self._replied.notify_all()
        if not part:
            with self._replied:
                self._qmp_ended = True
                self._replied.notify_all()
        return bool(part)

    def tail(self):
        """The last lines of QEMU's own messages and of the guest's console, for error texts."""
        parts = []
        for title, path in (("QEMU", self._errors), ("console", self._console)):
            try:
                with open(path, "rb") as f:
                    text = f.read().decode(errors="replace")
            except FileNotFoundError:
                continue
            parts += [f"\n  {self.name} {title}: {line}" for line in text.splitlines()[-TAIL_LINES:]]
        return "".join(parts)

    def panicked(self):
        try:
            with open(self._console, "rb") as f:
                return b"Kernel panic" in f.read()
        except FileNotFoundError:
            return False


def wait_until(condition, limit_s, pause_s=0.02):
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause_s)
    return True
