"""A window in the guests' shared memory: made on the host, a driver in each partition, programs under Shunt.

Partitions are vm0, vm1, ... and, where the host is on the guests' network, `host`. A *place* is a guest's number or
HOST; commands at either have the same calls (line(), rest(), succeed(), ...).
"""
import json
import os
import shutil
import subprocess
import time

from harness import run_id, settings
from harness.process import Process

from . import network
from .memory import PCI_ADDRESS, PCI_DEVICE

HOST = "host"
GUEST_ROOT = "/opt/shunt"
BINARIES = [("bin/shunt", f"{GUEST_ROOT}/bin/shunt"), ("bin/shuntd", f"{GUEST_ROOT}/bin/shuntd"),
            ("lib/libshunt.so", f"{GUEST_ROOT}/lib/libshunt.so")]


class NotCarried(AssertionError):
    pass


def programs(*test_programs):
    """What Guests(programs=...) needs for this file; test programs (tests/programs) by name."""
    pairs = [(os.path.join(settings.build, source), path) for source, path in BINARIES]
    return pairs + [(settings.program(name), f"{GUEST_ROOT}/bin/{name}") for name in test_programs]


class Window:
    """`with Window(guests) as window:` makes it and starts all drivers.

    notify         of all drivers
    bells          whether the drivers get doorbells: interrupts with backing "doorbell" unless `serial`, else
                   virtio-serial ports. A host cannot be interrupted, so interrupts leave it out
    dead_after_ms  how long a driver may be silent
    """

    def __init__(self, guests, notify="interrupt", bells=True, serial=False, dead_after_ms=2500,
                 log_level="warning"):
        self.guests = guests
        self.notify = notify
        self.drivers = {}
        self._bells = bells
        self.interrupts = guests.memory.backing == "doorbell" and not serial
        self._dead_after_ms = dead_after_ms
        self._log_level = log_level
        self._processes = []
        self._runtime = os.path.join(run_id.directory(), "vm-run")
        self.guest_device = f"pci:{PCI_ADDRESS}" if guests.memory.is_pci() else guests.memory.device
        with_host = guests.network.namespace and not self.interrupts
        self.places = list(range(len(guests))) + ([HOST] if with_host else [])
        self.made = False

    def __enter__(self):
        try:
            self.create()
            for place in self.places if self.interrupts else []:
                self.bind_to_vfio(place)
            for place in self.places:
                self.start_driver(place, wait=False)
            for place in self.places:
                self.await_driver(place)
            self.await_doorbells()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind, *unused):
        if kind is not None:
            self._tell()
        self.close()

    def close(self):
        for process in reversed(self._processes):
            process.end()
        self._processes.clear()
        shutil.rmtree(self._runtime, ignore_errors=True)

    # --- the window ---

    def name(self, place):
        return HOST if place == HOST else f"vm{place}"

    def address(self, place):
        return network.HOST if place == HOST else self.guests[place].address

    def device(self, place):
        return self.guests.memory.path if place == HOST else self.guest_device

    def create(self, *more):
        words = [f"--partition={self.name(place)}={self.address(place)}" for place in self.places]
        self.shunt(HOST, "window", "create", self.guests.memory.path, *words, *more)
        self.made = True

    def show(self, place=HOST):
        return json.loads(self.shunt(place, "window", "show", self.device(place), "--json"))

    def partition(self, name, place=HOST):
        return next(p for p in self.show(place)["partitions"] if p["name"] == name)

    def shunt(self, place, *words):
        """Runs the command line tool there and returns its output."""
        if place != HOST:
            return self.guests[place].run([f"{GUEST_ROOT}/bin/shunt", *words])
        done = subprocess.run([settings.binary("shunt"), *words], check=False, text=True, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self._host_environment())
        if done.returncode != 0:
            raise RuntimeError(f"shunt {' '.join(words)}: status {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    # --- drivers ---

    def driver_words(self, place, dead_after_ms):
        words = ["--window", self.device(place), "--partition", self.name(place), "--notify", self.notify,
                 "--dead-after", str(dead_after_ms), "--log-level", self._log_level, "--ready-fd", "1"]
        for other in self.places if self._bells else []:
            if other == place:
                continue
            words += ["--doorbell", f"{self.name(other)}={self._doorbell(place, other)}"]
        return words

    def _doorbell(self, place, other):
        if self.interrupts:
            return f"vfio:{PCI_ADDRESS}"
        return f"unix:{self.guests.host_bell(other)}" if place == HOST else f"virtio:bell.{self.name(other)}"

    def bind_to_vfio(self, place):
        """After each boot of a guest."""
        self.guests[place].run(f"echo vfio-pci >{PCI_DEVICE}/driver_override && "
                               f"echo {PCI_ADDRESS} >/sys/bus/pci/drivers_probe && test -e {PCI_DEVICE}/driver")

    def start_driver(self, place, wait=True, dead_after_ms=None):
        words = self.driver_words(place, dead_after_ms or self._dead_after_ms)
        self.drivers[place] = self._start(place, "shuntd", words, "shuntd")
        if wait:
            self.await_driver(place)

    def await_driver(self, place):
        self.drivers[place].line_with("ready", 60)

    def await_doorbells(self, limit_s=20):
        """Until every driver has heard from every other one that it has a doorbell to."""
        if not self._bells:
            return
        deadline = time.monotonic() + limit_s
        while not all(peer["doorbell"]["present"] for p in self.show()["partitions"] for peer in p["peers"]):
            if time.monotonic() > deadline:
                raise AssertionError(f"doorbells are missing: {self.shunt(HOST, 'window', 'show', self.device(HOST))}")
            time.sleep(0.1)

    # --- programs ---

    def start(self, place, argv, require=True, provider=True, **options):
        """A program there, under Shunt unless told otherwise."""
        name = os.path.basename(argv[0])
        if not provider:
            return self._start_plain(place, argv, name, options)
        words = ["run", "--window", self.device(place), "--partition", self.name(place)]
        return self._start(place, "shunt", words + ["--require"] * require + ["--"] + argv, name, **options)

    def program(self, place, name):
        """The path of a test program there."""
        return settings.program(name) if place == HOST else f"{GUEST_ROOT}/bin/{name}"

    def totals(self, place, program):
        """Summed counters of all live processes of that name there."""
        sums = {via: {"connections": 0, "bytes_sent": 0, "bytes_received": 0} for via in ("shared_memory", "kernel")}
        for entry in json.loads(self.shunt(place, "status", "--json"))["processes"]:
            if entry["program"] == program:
                for via, total in sums.items():
                    for key in total:
                        total[key] += entry["totals"][via][key]
        return sums

    def check_carried(self, place, program, sent=0, received=0, connections=1):
        """Raises NotCarried unless the program moved at least that much, and nothing through the kernel."""
        deadline = time.monotonic() + 3
        while True:
            found = self.totals(place, program)
            memory, kernel = found["shared_memory"], found["kernel"]
            if any(kernel.values()):
                raise NotCarried(f"{program} at {place}: kernel TCP took part: {kernel}")
            if (memory["bytes_sent"] >= sent and memory["bytes_received"] >= received
                    and memory["connections"] >= connections):
                return memory
            if time.monotonic() > deadline:
                raise NotCarried(f"{program} at {place}: shared memory carried {memory}, expected at least {sent} sent, "
                                 f"{received} received, {connections} connections")
            time.sleep(0.1)

    def check_all_areas_back(self, limit_s=10):
        deadline = time.monotonic() + limit_s
        while used := {p["name"]: p["arena"]["areas_used"] for p in self.show()["partitions"]
                       if p["arena"]["areas_used"]}:
            if time.monotonic() > deadline:
                raise AssertionError(f"areas still in use: {used}")
            time.sleep(0.1)

    # --- inside ---

    def _tell(self):
        """What the drivers say, when a test has failed."""
        for partition in self.show()["partitions"]:
            print(f"  partition {partition['name']}: driver {partition['driver']}, {partition['counters']}, "
                  f"{partition['arena']}", flush=True)
        for place, driver in self.drivers.items():
            for line in driver.errors().splitlines()[-10:]:
                print(f"  shuntd at {place}: {line}", flush=True)

    def _host_environment(self):
        os.makedirs(self._runtime, exist_ok=True)
        return dict(os.environ, SHUNT_RUNTIME_DIR=self._runtime)

    def _start(self, place, binary, words, name, **options):
        path = settings.binary(binary) if place == HOST else f"{GUEST_ROOT}/bin/{binary}"
        return self._start_plain(place, [path, *words], name, options)

    def _start_plain(self, place, argv, name, options):
        if place == HOST:
            self._host_environment()
            inside = ["ip", "netns", "exec", self.guests.network.namespace]
            environment = {"SHUNT_RUNTIME_DIR": self._runtime, **options.pop("environment", {})}
            process = Process(inside + argv, name, environment=environment, **options)
        else:
            process = self.guests[place].start(argv, **options)
        self._processes.append(process)
        return process
