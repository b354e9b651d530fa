"""Programs that a test starts: own process group, lines with time limits, sure end."""
import os
import select
import signal
import subprocess
import time

from . import run_id

DEFAULT_WAIT_S = 60


class ProgramFailed(Exception):
    pass


class Process:
    """One started program.

    stdin: "null", "hold" (a pipe that stays open until release()), or a path to read from.
    stdout: "lines" (read with line()), or a path to write to. stderr goes to a file whose end is
    shown in errors, or into the same lines with stderr_lines=True.
    """

    _count = 0

    def __init__(self, argv, name, stdin="null", stdout="lines", stderr_lines=False, environment=None):
        Process._count += 1
        self.argv = argv
        self.name = name
        self._errors = os.path.join(run_id.directory(), f"{Process._count}-{name}.stderr")
        self._pending = b""
        self._seen = []
        env = dict(os.environ, SHUNT_TEST_RUN=run_id.ID, TMPDIR=run_id.directory(), LC_ALL="C")
        env.update(environment or {})
        files = []

        def opened(path, mode):
            files.append(open(path, mode))
            return files[-1]

        try:
            if stdin == "null":
                source = subprocess.DEVNULL
            else:
                source = subprocess.PIPE if stdin == "hold" else opened(stdin, "rb")
            sink = subprocess.PIPE if stdout == "lines" else opened(stdout, "wb")
            errors = subprocess.STDOUT if stderr_lines else opened(self._errors, "wb")
            self._popen = subprocess.Popen(
                argv, stdin=source, stdout=sink, stderr=errors, env=env, start_new_session=True)
        finally:
            for f in files:
                f.close()
        self.pid = self._popen.pid
        run_id.note_group(self.pid)
        if self._popen.stdout is not None:
            os.set_blocking(self._popen.stdout.fileno(), False)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.end()

    def line(self, timeout_s=DEFAULT_WAIT_S):
        """The next line of output; ProgramFailed at end of output or after the time limit."""
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._pending:
            left = deadline - time.monotonic()
            readable, _, _ = select.select([self._popen.stdout], [], [], max(left, 0))
            if not readable:
                raise ProgramFailed(f"{self.name}: no line within {timeout_s} s{self._context()}")
            part = os.read(self._popen.stdout.fileno(), 65536)
            if not part:
                raise ProgramFailed(f"{self.name}: output ended{self._context()}")
            self._pending += part
        first, self._pending = self._pending.split(b"\n", 1)
        text = first.decode(errors="replace")
        self._seen.append(text)
        return text

    def line_with(self, text, timeout_s=DEFAULT_WAIT_S):
        """Skips lines until one contains `text`."""
        deadline = time.monotonic() + timeout_s
        while text not in (line := self.line(max(deadline - time.monotonic(), 0.001))):
            pass
        return line

    def rest(self, timeout_s=DEFAULT_WAIT_S):
        """Everything up to the end of output, as bytes."""
        deadline = time.monotonic() + timeout_s
        while True:
            readable, _, _ = select.select(
                [self._popen.stdout], [], [], max(deadline - time.monotonic(), 0))
            if not readable:
                raise ProgramFailed(f"{self.name}: output does not end{self._context()}")
            part = os.read(self._popen.stdout.fileno(), 1 << 20)
            if not part:
                data, self._pending = self._pending, b""
                return data
            self._pending += part

    def give(self, data):
        try:
            self._popen.stdin.write(data)
            self._popen.stdin.flush()
        except BrokenPipeError:
            raise ProgramFailed(f"{self.name}: ended before it took its input{self._context()}") from None

    def release(self):
        """Ends the program's stdin."""
        if self._popen.stdin is not None:
            self._popen.stdin.close()

    def wait(self, timeout_s=DEFAULT_WAIT_S):
        """The exit status; a program that does not end in time is a failure."""
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ProgramFailed(f"{self.name}: still running after {timeout_s} s{self._context()}") from None

    def succeed(self, timeout_s=DEFAULT_WAIT_S):
        status = self.wait(timeout_s)
        if status != 0:
            raise ProgramFailed(f"{self.name}: exit status {status}{self._context()}")

    def running(self):
        return self._popen.poll() is None

    def kill(self, number=signal.SIGKILL):
        """Signals the program itself, not its group."""
        self._popen.send_signal(number)

    def end(self):
        """SIGTERM to the group, SIGKILL after a second; reaps."""
        for number, patience_s in ((signal.SIGTERM, 1.0), (signal.SIGKILL, 10.0)):
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                pass
            try:
                self._popen.wait(patience_s)
                break
            except subprocess.TimeoutExpired:
                continue
        try:
            os.killpg(self.pid, signal.SIGKILL)  # children that outlived the leader
        except ProcessLookupError:
            pass
        for stream in (self._popen.stdin, self._popen.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    pass

    def errors(self):
        try:
            with open(self._errors, "rb") as f:
                return f.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def _context(self):
        lines = self._seen[-5:] + self._pending.decode(errors="replace").splitlines()[-5:]
        parts = ["\n  command: " + " ".join(self.argv)]
        parts += ["\n  output: " + line for line in lines]
        parts += ["\n  stderr: " + line for line in self.errors().splitlines()[-15:]]
        return "".join(parts)
