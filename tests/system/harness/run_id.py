"""The names of one run, and the certainty that nothing of it stays behind.

Everything a run makes carries its id: network namespaces `shunt-t-ID-*`, the directory
`shunt-t-ID-*`, and SHUNT_TEST_RUN=ID in the environment of every process. Programs that overwrite
their environment are known by their process group. A janitor outside the run's process tree waits
for its end, however it comes, and removes what is left.
"""
import os
import shutil
import signal
import subprocess
import tempfile
import time

ID = str(os.getpid())
PREFIX = f"shunt-t-{ID}-"
ENVIRONMENT_MARK = f"SHUNT_TEST_RUN={ID}".encode()

_directory = None
_groups = set()
_janitor = None


def directory():
    """The run's own directory, made on first use: in memory, where windows want to be."""
    global _directory
    if _directory is None:
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        _directory = tempfile.mkdtemp(prefix=PREFIX, dir=base)
    return _directory


def note_group(leader):
    """A started program leads its own process group: remember it, and tell the janitor."""
    _groups.add(leader)
    if _janitor is not None:
        os.write(_janitor, f"{leader}\n".encode())


def _is_ours(pid):
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            state, _, group = f.read().rpartition(b")")[2].split()[:3]
        if state == b"Z":
            return False
        if int(group) in _groups:
            return True
        with open(f"/proc/{pid}/environ", "rb") as f:
            return ENVIRONMENT_MARK in f.read().split(b"\0")
    except OSError:
        return False


def processes():
    """Process ids of this run's programs, wherever they have got to."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in pids if pid != os.getpid() and _is_ours(pid)]


def namespaces():
    try:
        return [n for n in os.listdir("/run/netns") if n.startswith(PREFIX)]
    except FileNotFoundError:
        return []


def remove_everything():
    """Kills and deletes whatever carries this run's id. Safe to call at any time, and twice."""
    deadline = time.monotonic() + 10
    while (left := processes()) and time.monotonic() < deadline:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.01)
    for name in namespaces():
        subprocess.run(["ip", "netns", "delete", name], check=False)
    bases = {"/dev/shm", tempfile.gettempdir()}
    for base in bases:
        if not os.path.isdir(base):
            continue
        for name in os.listdir(base):
            if name.startswith(PREFIX):
                shutil.rmtree(os.path.join(base, name), ignore_errors=True)


def start_janitor():
    """Forks twice, so that killing the run's process tree does not reach the janitor."""
    global _janitor
    alive_read, alive_write = os.pipe()
    child = os.fork()
    if child:
        os.close(alive_read)
        os.waitpid(child, 0)
        _janitor = alive_write
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    os.close(alive_write)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    try:
        with open(alive_read, encoding="ascii") as groups:  # ends when the run is gone
            _groups.update(int(line) for line in groups)
        remove_everything()
    finally:
        os._exit(0)
