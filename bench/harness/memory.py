"""Readings of memory, descriptors and mappings."""
import errno
import os
import subprocess
import time

KIB = 1024


def handles(pid):
    """(descriptors, mappings) of a process."""
    with open(f"/proc/{pid}/maps", "rb") as f:
        return len(os.listdir(f"/proc/{pid}/fd")), sum(1 for _ in f)


def fields(path, names):
    """Bytes of the named fields of a file with lines like "Pss:  12 kB"; those that are missing count nothing."""
    with open(path, encoding="ascii", errors="replace") as f:
        pairs = (line.split(":", 1) for line in f if ":" in line)
        return sum(int(value.split()[0]) * KIB for name, value in pairs if name in names)


def resident(pid):
    """Bytes in a process's mappings, shared ones in full."""
    return fields(f"/proc/{pid}/smaps_rollup", {"Rss"})


def slab_objects(path="/proc/slabinfo"):
    """Bytes in the kernel's allocated objects; without the room that caches keep for the next ones."""
    with open(path, encoding="ascii") as f:
        rows = [line.split() for line in f if not line.startswith(("slabinfo", "#"))]
    return sum(int(row[1]) * int(row[3]) for row in rows)


class ProcMeter:
    """By /proc. What the kernel allocates for sockets can only be counted for the whole machine.

    Shared memory is in the Pss of the two processes, which nobody else maps: each page counts once.
    """

    def __init__(self):
        self._slabinfo = os.access("/proc/slabinfo", os.R_OK)
        slab = "objects in /proc/slabinfo" if self._slabinfo else "Slab (as root: objects in /proc/slabinfo)"
        self.text = ("memory by /proc: Pss (anonymous, shared memory) and page tables of both processes, and the "
                     f"change of the whole machine's KernelStack and {slab}, in which is what else runs")

    def cgroup(self, _name):
        return None

    def both(self, pair):
        own = sum(fields(f"/proc/{p.pid}/smaps_rollup", {"Pss_Anon", "Pss_Shmem"}) +
                  fields(f"/proc/{p.pid}/status", {"VmPTE"}) for p in pair.both)
        kernel = {"KernelStack"} if self._slabinfo else {"KernelStack", "Slab"}
        return own + fields("/proc/meminfo", kernel) + (slab_objects() if self._slabinfo else 0)

    def remove(self):
        pass


class CgroupMeter:
    """By two cgroups (v2), made for the bench: exact, with what the kernel keeps for their sockets."""

    text = "memory by memory.current of a cgroup for each program, which counts the kernel's memory for them"

    def __init__(self, parent):
        self._directories = {}
        try:
            for name in ("server", "client"):
                path = os.path.join(parent, f"shunt-bench-{os.getpid()}-{name}")
                os.mkdir(path)
                self._directories[name] = path
                if not os.access(os.path.join(path, "memory.current"), os.R_OK):
                    raise OSError(errno.ENOTSUP, "no memory controller here")
                subprocess.run(["/bin/sh", "-c", 'echo 0 >"$1/cgroup.procs"', "sh", path], check=True,
                               stderr=subprocess.DEVNULL)  # a program can be put there
        except subprocess.CalledProcessError as e:
            self.remove()
            raise OSError(errno.EPERM, "no program may go there") from e
        except OSError:
            self.remove()
            raise

    def cgroup(self, name):
        return self._directories[name]

    def both(self, _pair):
        total = 0
        for path in self._directories.values():
            with open(os.path.join(path, "memory.current"), encoding="ascii") as f:
                total += int(f.read())
        return total

    def remove(self):
        deadline = time.monotonic() + 5
        for path in self._directories.values():
            while os.path.exists(path):
                try:
                    os.rmdir(path)
                except OSError:  # a program that was just killed
                    if time.monotonic() > deadline:
                        break
                    time.sleep(0.02)


def choose_meter(mounts="/proc/self/mounts", membership="/proc/self/cgroup"):
    """Cgroups where they can be made: below the bench's own, or, as one with processes may hand no memory on to
    others below it, as near to it as one does."""
    try:
        with open(mounts, encoding="utf-8") as f:
            roots = [line.split()[1] for line in f if line.split()[2] == "cgroup2"]
        with open(membership, encoding="utf-8") as f:
            own = [line.strip().split(":", 2)[2] for line in f if line.startswith("0::")]
    except OSError:
        return ProcMeter()
    if not roots or not own:
        return ProcMeter()
    place = os.path.normpath(roots[0] + own[0])
    while place.startswith(roots[0]):
        if os.access(os.path.join(place, "cgroup.procs"), os.W_OK) and _hands_memory_on(place):
            try:
                return CgroupMeter(place)
            except OSError:
                pass
        place = os.path.dirname(place)
    return ProcMeter()


def _hands_memory_on(place):
    try:
        with open(os.path.join(place, "cgroup.subtree_control"), encoding="ascii") as f:
            return "memory" in f.read().split()
    except OSError:
        return False
