"""Stages: where the two sides of an exchange run, and what carries it.

native  both sides in one network namespace, kernel TCP over loopback
local   the same under `shunt run --require`: one partition, no daemon
window  the server in partition b, the client in partition a: two network namespaces joined by a
        veth pair, one shuntd each, a fresh window, both sides under `shunt run --require`
device  the same, with a window on a file, as if the partitions were on two kernels: nothing but the file
        and the drivers' doorbells is shared

native and local use a private network namespace too, where the privilege allows it, so that ports and
abstract names meet nobody else's.
"""
import json
import os
import shutil
import subprocess
import time

from . import run_id, settings
from .process import Process

ADDRESS = {"a": "10.77.0.1", "b": "10.77.0.2", "c": "10.77.0.3"}
PARTITION = {"client": "a", "server": "b"}
RUNTIME_DIR = "SHUNT_RUNTIME_DIR"  # where drivers of windows on devices leave their sockets


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def have_namespaces():
    """Whether this user may make network namespaces (and mount, which `ip netns` does)."""
    probe = run_id.PREFIX + "probe"
    if subprocess.run(["ip", "netns", "add", probe], stderr=subprocess.DEVNULL).returncode != 0:
        return False
    ip("netns", "delete", probe)
    return True


class Stage:
    """Use as a context manager. Processes started here end with it."""

    def __init__(self, mode, notify=None, mib=1024, dead_after_ms=15000, partitions="ab"):
        """mib (the size) and dead_after_ms: of the window and its drivers, in the mode device. Partition c has no
        network, only the window."""
        self.mode = mode
        self.notify = notify
        self.apart = mode in ("window", "device")
        self.host = ADDRESS["b"] if self.apart else "127.0.0.1"
        self.client_host = ADDRESS["a"] if self.apart else "127.0.0.1"
        self._mib = mib
        self._partitions = partitions
        self._dead_after_ms = dead_after_ms
        self.shunted = mode != "native"
        self.window = None
        self._made = False
        self.drivers = {}
        self._processes = []
        self._namespaces = {}

    def __enter__(self):
        try:
            if self.apart:
                self._make_partitions()
            elif have_namespaces():
                self._make_namespace("one")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *unused):
        for process in reversed(self._processes):
            process.end()
        self._processes.clear()
        try:
            if self._made and os.path.exists(self.window):
                self.shunt("window", "destroy", self.window)
        finally:
            if self.mode == "device" and self.window is not None:
                os.unlink(self.window)
                shutil.rmtree(os.environ.pop(RUNTIME_DIR), ignore_errors=True)
            for name in self._namespaces.values():
                subprocess.run(["ip", "netns", "delete", name], check=False)
            self._namespaces.clear()

    def start(self, side, argv, provider=True, require=True, **options):
        """Starts a program on "server" or "client", or in the partition of that name; under Shunt unless told
        otherwise."""
        prefix = []
        if self.shunted and provider:
            prefix = [settings.binary("shunt"), "run"]
            if self.apart:
                prefix += ["--window", self.window, "--partition", PARTITION.get(side, side)]
            prefix += ["--require"] * require + ["--"]
        name = options.pop("name", os.path.basename(argv[0]))
        return self._start(self._enter(side) + prefix + argv, name, options)

    def start_driver(self, partition):
        argv = [settings.binary("shuntd"), "--window", self.window, "--partition", partition,
                "--ready-fd", "1"]
        if self.notify:
            argv += ["--notify", self.notify]
        if self.mode == "device":
            argv += ["--dead-after", str(self._dead_after_ms)]
        inside = ["ip", "netns", "exec", self._namespaces[partition]]
        driver = self._start(inside + argv, f"shuntd-{partition}", {})
        driver.line_with("ready", 20)
        self.drivers[partition] = driver
        return driver

    def shunt(self, *words):
        """Runs the command line tool and returns its output."""
        done = subprocess.run([settings.binary("shunt"), *words], check=False, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        if done.returncode != 0:
            raise RuntimeError(f"shunt {' '.join(words)}: status {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def check_areas_free(self):
        """In the mode device, when all programs have ended: no driver keeps an area."""
        deadline = time.monotonic() + 10
        while self.mode == "device":
            report = json.loads(self.shunt("window", "show", self.window, "--json"))
            used = {p["name"]: p["arena"]["areas_used"] for p in report["partitions"]}
            if not any(used.values()):
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"areas that nobody uses are not free: {used}")
            time.sleep(0.05)

    def abstract_names(self):
        """The abstract AF_UNIX names `@shunt...` in the stage's namespaces."""
        names = []
        for namespace in self._namespaces.values():
            table = subprocess.run(["ip", "netns", "exec", namespace, "cat", "/proc/net/unix"],
                                   check=True, text=True, stdout=subprocess.PIPE).stdout
            names += [w for line in table.splitlines() for w in line.split() if w.startswith("@shunt")]
        return names

    def _start(self, argv, name, options):
        process = Process(argv, name, **options)
        self._processes.append(process)
        return process

    def _enter(self, side):
        namespace = self._namespaces.get(PARTITION.get(side, side) if self.apart else "one")
        return ["ip", "netns", "exec", namespace] if namespace else []

    def _make_namespace(self, name):
        full = run_id.PREFIX + name
        ip("netns", "add", full)
        self._namespaces[name] = full
        ip("-n", full, "link", "set", "lo", "up")

    def _make_partitions(self):
        for name in self._partitions:
            self._make_namespace(name)
        a, b = (self._namespaces[n] for n in ("a", "b"))
        ip("-n", a, "link", "add", "veth0", "type", "veth", "peer", "name", "veth0", "netns", b)
        for name in "ab":
            ip("-n", self._namespaces[name], "address", "add", ADDRESS[name] + "/24", "dev", "veth0")
            ip("-n", self._namespaces[name], "link", "set", "veth0", "up")
        for name in self._partitions[2:]:
            ip("-n", self._namespaces[name], "address", "add", ADDRESS[name] + "/24", "dev", "lo")
        self.window = os.path.join(run_id.directory(), "window")
        if self.mode == "device":
            os.environ[RUNTIME_DIR] = os.path.join(run_id.directory(), "run")
            os.mkdir(os.environ[RUNTIME_DIR])
            with open(self.window, "xb") as file:
                file.truncate(self._mib << 20)
        self._make_window()
        self._made = True
        for name in self._partitions:
            self.start_driver(name)

    def make_anew(self):
        """Ends the drivers that are left, and begins with a fresh window in the place of this one (device)."""
        for driver in self.drivers.values():
            driver.end()
        self._make_window("--force")
        for name in self._partitions:
            self.start_driver(name)

    def _make_window(self, *options):
        self.shunt("window", "create", self.window, *options,
                   *(f"--partition={name}={ADDRESS[name]}" for name in self._partitions))
