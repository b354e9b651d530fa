"""Debian's cloud kernel, fetched and unpacked below the build directory, never installed."""
import os
import re
import shutil
import subprocess
import tempfile

from .failure import Unavailable

PACKAGE = "linux-image-cloud-amd64"
FETCH_LIMIT_S = 180


class Kernel:
    """An unpacked kernel: `image` to boot, `directory` of modules, their dependencies."""

    def __init__(self, root):
        self.root = root
        (self.version,) = os.listdir(os.path.join(root, "lib", "modules"))
        self.image = os.path.join(root, "boot", f"vmlinuz-{self.version}")
        self.directory = os.path.join("lib", "modules", self.version)
        self._needs = {}
        self._paths = {}
        with open(os.path.join(root, self.directory, "modules.dep"), encoding="ascii") as f:
            for line in f:
                path, _, needs = line.partition(":")
                self._needs[path] = needs.split()
                self._paths[_plain(path)] = path

    def modules(self, names):
        """Paths (from `root`) of the modules and of all they need, in an order to load them."""
        order = []

        def add(path):
            if path in order:
                return
            for need in self._needs[path]:
                add(need)
            order.append(path)

        for name in names:
            if _plain(name) not in self._paths:
                raise Unavailable(f"kernel {self.version} has no module {name}")
            add(self._paths[_plain(name)])
        return [os.path.join(self.directory, path) for path in order]


def _plain(path):
    """A module's name: some files are spelt with a hyphen where the name has an underscore."""
    return os.path.basename(path).removesuffix(".ko").replace("-", "_")


def _run(argv, directory=None):
    try:
        done = subprocess.run(argv, cwd=directory, capture_output=True, text=True, timeout=FETCH_LIMIT_S)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise Unavailable(f"{argv[0]}: {e}") from None
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(argv)}: exit status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _package():
    """The package that the metapackage stands for today."""
    found = re.search(r"Depends: (linux-image-\S+)", _run(["apt-cache", "depends", PACKAGE]))
    if found is None:
        raise Unavailable(f"apt-cache knows no {PACKAGE}: run apt-get update")
    return found.group(1)


def _fetch(place):
    os.makedirs(place, exist_ok=True)
    scratch = tempfile.mkdtemp(prefix="unpack-", dir=place)
    try:
        package = _package()
        _run(["apt-get", "download", package], scratch)
        (archive,) = [n for n in os.listdir(scratch) if n.endswith(".deb")]
        root = os.path.join(scratch, "root")
        _run(["dpkg-deb", "-x", os.path.join(scratch, archive), root])
        (version,) = os.listdir(os.path.join(root, "lib", "modules"))
        _run(["/sbin/depmod", "-b", root, version])
        try:
            os.rename(root, os.path.join(place, package))
        except OSError:  # another run was faster
            if not os.path.isdir(os.path.join(place, package)):
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def fetch(directory):
    """The kernel below `directory`; it is fetched when none is there. Raises Unavailable."""
    place = os.path.join(directory, "kernel")

    def found():
        names = sorted(os.listdir(place)) if os.path.isdir(place) else []
        return [os.path.join(place, n) for n in names if n.startswith("linux-image-")]

    if not found():
        _fetch(place)
    return Kernel(found()[-1])
