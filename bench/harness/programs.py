"""Programs that the bench starts: lines with time limits, and a sure end."""
import ctypes
import os
import select
import signal
import subprocess
import tempfile
import time

from .errors import Failed

LIMIT_S = 60
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # what makes the runner end everything
_libc = ctypes.CDLL(None)
_libc.prctl(PR_SET_CHILD_SUBREAPER, 1)  # the programs of a tracer that was killed come here, to be waited for


class Program:
    """One started program, in a process group of its own, which a Ctrl-C at the terminal does not reach.

    It dies with the runner, however that ends. `cpus` and `cgroup` hold from its first instruction on.
    """

    def __init__(self, name, argv, cpus=None, cgroup=None):
        self.name = name
        self._argv, self._cpus, self._cgroup = argv, cpus, cgroup
        self._process = None
        self._errors = None
        self._unread = b""

    @property
    def pid(self):
        return self._process.pid

    def start(self):
        """To be called where end() is sure to follow: a signal finds the program either not begun, or known."""
        self._errors = tempfile.TemporaryFile()  # pylint: disable=consider-using-with
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)

        def before_exec():
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if self._cpus:
                os.sched_setaffinity(0, self._cpus)
            if self._cgroup:
                with open(os.path.join(self._cgroup, "cgroup.procs"), "w", encoding="ascii") as f:
                    f.write("0")

        try:
            # pylint: disable-next=consider-using-with,subprocess-popen-preexec-fn
            self._process = subprocess.Popen(self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                             stderr=self._errors, process_group=0, preexec_fn=before_exec)
        except (OSError, subprocess.SubprocessError) as e:
            raise Failed(f"{self.name} cannot be started: {e}") from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def give(self, line):
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure("ended too early") from None

    def line(self, first_word, limit_s=LIMIT_S):
        """The words of the next line behind its first one, which must be `first_word`."""
        deadline = time.monotonic() + limit_s
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise self._failure(f"did not say '{first_word}' within {limit_s:.0f} s")
            part = os.read(self._process.stdout.fileno(), 4096)
            if not part:
                raise self._failure(f"ended before it said '{first_word}'")
            self._unread += part
        text, self._unread = self._unread.split(b"\n", 1)
        word, *rest = text.decode().split()
        if word != first_word:
            raise self._failure(f"said '{text.decode()}', not '{first_word}'")
        return rest

    def succeed(self, limit_s=LIMIT_S):
        try:
            if self._process.wait(limit_s) != 0:
                raise self._failure("failed")
        except subprocess.TimeoutExpired:
            raise self._failure(f"did not end within {limit_s:.0f} s") from None

    def ended_early(self):
        """What to say of a program that ought to live: None while it does."""
        return self._failure("ended") if self._process.poll() is not None else None

    def _failure(self, what):
        time.sleep(0.1)  # its last words may be on their way
        self._errors.seek(0)
        words = self._errors.read().decode(errors="replace").strip().splitlines()
        status = self._process.poll()
        ended = "" if status is None else f" (exit status {status})"
        return Failed(f"{self.name} {what}{ended}" + (f": {words[-1]}" if words else ""))

    def end(self):
        """Ends the whole group; never raises."""
        if self._errors:
            self._errors.close()
        if not self._process:
            return
        try:
            os.killpg(self.pid, signal.SIGKILL)  # also where the leader has ended: others of the group may live
        except (ProcessLookupError, PermissionError):
            pass
        self._process.wait()
        try:
            while True:
                os.waitpid(-self.pid, 0)
        except ChildProcessError:
            pass
        for file in (self._process.stdin, self._process.stdout):
            try:
                file.close()
            except OSError:
                pass
