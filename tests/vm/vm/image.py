"""The initramfs of a guest: busybox, modules, host programs with their libraries, an init.

Not compressed: unpacking under emulation takes longer than reading. Files appear in the guest at
the path they have on the host, so that a program finds what it was linked with.
"""
import fnmatch
import os
import re
import stat
import subprocess
import tempfile

from harness import run_id

from .failure import Unavailable

BUSYBOX = ("/bin/busybox", "/usr/bin/busybox")
DIRECTORIES = ("bin", "dev", "etc", "proc", "root", "run", "sbin", "sys", "tmp", "usr", "usr/bin",
               "usr/sbin", "var")
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}
PYTHON = "/usr/bin/python3"
PYTHON_WITHOUT = ("__pycache__", "config-*", "distutils", "ensurepip", "idlelib", "lib2to3", "pydoc_data",
                  "test", "tests", "tkinter", "unittest", "_codecs_*", "_dbm*", "_sqlite3*", "_test*",
                  "nis.*", "sqlite3")


def libraries(path):
    """The shared libraries that a program or library needs, as ldd lists them."""
    listed = subprocess.run(["ldd", path], capture_output=True, text=True, timeout=20)
    if listed.returncode != 0:  # a static program, or a script
        return []
    missing = re.findall(r"(\S+) => not found", listed.stdout)
    if missing:
        raise Unavailable(f"{path}: libraries not found: {', '.join(missing)}")
    return re.findall(r"(?:=> |^\s*)(/\S+) \(0x", listed.stdout, re.MULTILINE)


def _stripped(path):
    """A program without its debug information: that is most of it, and guests are small."""
    with tempfile.NamedTemporaryFile(dir=run_id.directory()) as f:
        subprocess.run(["strip", "--strip-debug", "-o", f.name, path], timeout=60, check=True)
        with open(f.name, "rb") as stripped:
            return stripped.read()


class Image:
    """A file tree in the making. Later additions replace earlier ones of the same path."""

    def __init__(self):
        self._entries = {}
        self._directory("")
        for name in DIRECTORIES:
            self._directory(name)
        for name, text in FILES.items():
            self.add_bytes(name, text.encode())

    def _directory(self, path):
        path = path.strip("/")
        if path and os.path.dirname(path) != path:
            self._directory(os.path.dirname(path))
        mode = 0o1777 if path == "tmp" else 0o755
        self._entries.setdefault(path or ".", (stat.S_IFDIR | mode, b""))

    def add_bytes(self, path, data, mode=0o644):
        path = path.strip("/")
        self._directory(os.path.dirname(path))
        self._entries[path] = (stat.S_IFREG | mode, data)

    def add_link(self, path, target):
        path = path.strip("/")
        self._directory(os.path.dirname(path))
        self._entries[path] = (stat.S_IFLNK | 0o777, target.encode())

    def add_file(self, source, path=None):
        """A host file, links followed; with a program or library come the libraries that it needs."""
        with open(source, "rb") as f:
            data = f.read()
        if data[:4] == b"\x7fELF" and b".debug_info" in data:
            data = _stripped(source)
        self.add_bytes(path or os.path.abspath(source), data, stat.S_IMODE(os.stat(source).st_mode))
        if data[:4] == b"\x7fELF":
            for library in libraries(source):
                if library.strip("/") not in self._entries:
                    with open(library, "rb") as f:
                        self.add_bytes(library, f.read(), 0o755)

    def add_python(self):
        """The host's python3 and the parts of its library that servers and small scripts use."""
        self.add_file(PYTHON)
        asked = subprocess.run([PYTHON, "-c", "import os; print(os.path.dirname(os.__file__))"],
                               capture_output=True, text=True, timeout=20, check=True)
        self._add_tree(asked.stdout.strip(), PYTHON_WITHOUT)

    def _add_tree(self, source, without):
        def wanted(name):
            return not any(fnmatch.fnmatch(name, pattern) for pattern in without)

        for base, directories, names in os.walk(source):
            directories[:] = filter(wanted, directories)
            for path in (os.path.join(base, name) for name in filter(wanted, names)):
                if os.path.isfile(path):
                    self.add_file(path)

    def add_busybox(self):
        for path in BUSYBOX:
            if os.access(path, os.X_OK):
                break
        else:
            raise Unavailable("busybox is missing: install busybox-static")
        self.add_file(path, "bin/busybox")
        applets = subprocess.run([path, "--list"], capture_output=True, text=True, timeout=20, check=True)
        for name in applets.stdout.split():
            if name != "busybox":
                self.add_link(f"bin/{name}", "busybox")

    def add_modules(self, kernel, names):
        """Modules at their own paths, and the list of what init loads, in order."""
        paths = kernel.modules(names)
        for path in paths:
            self.add_file(os.path.join(kernel.root, path), path)
        for name in ("modules.dep", "modules.alias", "modules.builtin", "modules.symbols"):
            self.add_file(os.path.join(kernel.root, kernel.directory, name),
                          os.path.join(kernel.directory, name))
        return ["/" + path for path in paths]

    def write(self, path):
        """Writes the archive (cpio, format newc)."""
        with open(path, "wb") as f:
            for number, (name, (mode, data)) in enumerate(sorted(self._entries.items()), 1):
                _put(f, name, mode, data, number)
            _put(f, "TRAILER!!!", 0, b"", 0)


def _put(f, name, mode, data, number):
    encoded = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    f.write(b"070701" + b"".join(b"%08X" % field for field in fields))
    f.write(encoded + bytes(-(110 + len(encoded)) % 4))
    f.write(data + bytes(-len(data) % 4))
