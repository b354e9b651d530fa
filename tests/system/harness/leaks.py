"""Counts of everything that a run could leave behind, before and after."""
import os
import tempfile
import time

from . import run_id


def _listing(directory, prefix):
    try:
        return [os.path.join(directory, n) for n in os.listdir(directory) if n.startswith(prefix)]
    except FileNotFoundError:
        return []


def _mounts():
    with open("/proc/self/mounts", encoding="utf-8") as f:
        return [line.split()[1] for line in f if run_id.PREFIX in line]


def memory_objects(pid):
    """Shunt's descriptors and mappings of one process: (memfds open, areas mapped, all fds)."""
    fds = os.listdir(f"/proc/{pid}/fd")
    open_ = 0
    for fd in fds:
        try:
            open_ += os.readlink(f"/proc/{pid}/fd/{fd}").startswith("/memfd:shunt")
        except OSError:
            pass
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as f:
        window = os.path.join(run_id.directory(), "window")  # on a device it holds the areas
        mapped = sum("/memfd:shunt" in line or window in line for line in f)
    return open_, mapped, len(fds)


def _held_by_this_run():
    return [pid for pid in run_id.processes() if memory_objects_of_any(pid)]


def memory_objects_of_any(pid):
    try:
        return memory_objects(pid)[0] > 0
    except OSError:
        return False


class LeakCheck:
    """Take one before the first stage; check() after the last one has ended.

    Files named shunt* elsewhere are counted as well, unless SHUNT_TEST_SHARED_HOST says that other
    runs use this machine at the same time.
    """

    def __init__(self):
        self._shared_host = bool(os.environ.get("SHUNT_TEST_SHARED_HOST"))
        self._directory_before = set(_listing(run_id.directory(), ""))
        self._before = self._snapshot()

    def _snapshot(self):
        found = {
            "processes": run_id.processes(),
            "processes with memory objects": _held_by_this_run(),
            "network namespaces": run_id.namespaces(),
            "mounts": _mounts(),
            "windows": _listing(run_id.directory(), "window"),
            "sockets": [p for p in _listing(run_id.directory(), "") if _is_socket(p)],
        }
        if not self._shared_host:
            bases = {"/dev/shm", "/tmp", tempfile.gettempdir()}
            own = os.path.basename(run_id.directory())
            found["files"] = sorted(p for base in bases for p in _listing(base, "shunt")
                                    if os.path.basename(p) != own)
        return found

    def check(self):
        deadline = time.monotonic() + 10
        while True:
            now = self._snapshot()
            extra = {kind: [i for i in items if i not in self._before[kind]]
                     for kind, items in now.items()}
            extra = {kind: items for kind, items in extra.items() if items}
            if not extra:
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"left behind: {extra}")
            time.sleep(0.05)


def _is_socket(path):
    try:
        return (os.lstat(path).st_mode & 0o170000) == 0o140000
    except OSError:
        return False


def check_no_abstract_names(stage):
    """No `@shunt...` name in the stage's namespaces: to be called when its programs have ended."""
    deadline = time.monotonic() + 5
    while names := stage.abstract_names():
        if time.monotonic() > deadline:
            raise AssertionError(f"abstract names left behind: {names}")
        time.sleep(0.02)
