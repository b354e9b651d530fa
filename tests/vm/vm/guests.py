"""Guests that share memory, a network and doorbell ports; made together, gone together."""
import os
import shutil

from harness import run_id, settings

from . import accel, kernel, network
from .doorbells import DoorbellServer
from .guest import BOOT_LIMIT_S, Guest
from .image import Image
from .machine import Hardware
from .memory import MIB, MODULES, VECTORS, SharedMemory

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BASE_MODULES = ["virtio_pci", "virtio_console", "virtio_net"]
KERNEL_OPTIONS = "console=ttyS0 quiet loglevel=4 edd=off tsc=reliable panic=0 random.trust_cpu=on"

_janitor = []


def _start_janitor():
    """Once in a process: it cleans up when this process is killed."""
    if not _janitor:
        run_id.start_janitor()
        _janitor.append(True)


def _default_build():
    return os.path.join(HERE, "..", "..", "build", "release")


class Guests:
    """`with Guests(2) as guests:` boots them all; guests[0] is a Guest.

    count        how many, named vm0, vm1, ... with addresses 10.77.0.1, 10.77.0.2, ...
    backing      "ivshmem", "doorbell", "nvdimm", "pmem" or None: how they see the shared memory
    shared_file  the host's file behind it (default: one of this run, in memory)
    size         of that file, in bytes; a file that exists must have it
    programs     host programs and libraries to put in, with all libraries that they need: names on the
                 PATH, paths, or pairs (host path, guest path)
    python       put in the host's python3 with most of its library (13 MB)
    modules      more kernel modules to load
    net          "bridge", "mcast", None, or "auto": see network.py
    bells        a virtio-serial port between each two guests, and between each guest and the host

    One such object at a time in a process. Thread safety: one thread, but for the guests' commands.
    """

    def __init__(self, count, backing="ivshmem", shared_file=None, size=64 * MIB, memory_mib=256,
                 programs=(), python=False, modules=(), net="auto", bells=True,
                 boot_limit_s=BOOT_LIMIT_S):
        if settings.build is None:
            settings.build = os.path.abspath(_default_build())
        self.directory = os.path.join(os.path.dirname(settings.build), "vm")  # build/vm
        own_file = os.path.join(run_id.directory(), "shared")
        self._fresh = shared_file is None or not os.path.exists(shared_file)
        self.memory = SharedMemory(backing, shared_file or own_file, size)
        self.accel = None
        self._count = count
        self._memory_mib = memory_mib
        self._programs = list(programs)
        self._python = python
        self._modules = BASE_MODULES + MODULES[backing] + list(modules)
        self._net_kind = net
        self._bells = bells
        self._boot_limit_s = boot_limit_s
        self._guests = []
        self._server = None
        self.network = None

    def __enter__(self):
        try:
            _start_janitor()
            self._prepare()
            for guest in self._guests:
                guest.launch()
            for guest in self._guests:
                guest.await_boot(self._boot_limit_s)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *unused):
        self.close()

    def __getitem__(self, index):
        return self._guests[index]

    def __iter__(self):
        return iter(self._guests)

    def __len__(self):
        return len(self._guests)

    def close(self):
        for guest in self._guests:
            guest.kill()
        if self._server is not None:
            self._server.close()
            self._server = None
        if self.network is not None:
            self.network.close()
            self.network = None
        for name in os.listdir(run_id.directory()):
            if name.startswith("vm-"):
                os.unlink(os.path.join(run_id.directory(), name))
        if self._fresh and os.path.exists(self.memory.path):
            os.unlink(self.memory.path)

    def host_bell(self, index):
        """The unix socket whose other end is the port bell.host in that guest."""
        return self._bell_path("host", index)

    def doorbell_path(self):
        """The doorbell server's unix socket (backing "doorbell"): the host's programs may join as a peer."""
        return self._path("doorbells")

    def _path(self, name):
        return os.path.join(run_id.directory(), f"vm-{name}")

    def _bell_path(self, one, other):
        return self._path(f"bell-{one}-{other}")

    def _prepare(self):
        if self.memory.backing is not None:
            self.memory.create(self._fresh)
        self._kernel = kernel.fetch(self.directory)
        self._initrd = self._path("initramfs")
        self._make_image().write(self._initrd)
        self.accel = accel.find(self.directory, self._kernel, self._initrd)
        self.network = network.make(self._net_kind)
        if self.memory.backing == "doorbell":
            self._server = DoorbellServer(self.doorbell_path(), self.memory.path, VECTORS)
        for index in range(self._count):
            self._guests.append(Guest(index, f"vm{index}", network.address(index),
                                      lambda index=index: self._hardware(index),
                                      self._path(f"console-{index}")))

    def _make_image(self):
        image = Image()
        image.add_busybox()
        image.add_file(os.path.join(HERE, "guest", "init"), "init")
        for program in ("vm_agent", "vm_doorbell", "vm_probe"):
            image.add_file(settings.program(program), f"sbin/{program}")
        load = image.add_modules(self._kernel, self._modules)
        image.add_bytes("etc/modules.load", ("\n".join(load) + "\n").encode())
        hosts = ["127.0.0.1 localhost"] + [f"{network.address(i)} vm{i}" for i in range(self._count)]
        image.add_bytes("etc/hosts", ("\n".join(hosts) + "\n").encode())
        for program in self._programs:
            source, path = (program, None) if isinstance(program, str) else program
            found = shutil.which(source)
            image.add_file(found or source, path)
        if self._python:
            image.add_python()
        return image

    def _hardware(self, index):
        """Hardware for one launch, and a call that closes what QEMU has inherited."""
        net, fds = self.network.attach(index)
        append = f"{KERNEL_OPTIONS} shunt.name=vm{index}"
        if self.network.kind is not None:
            append += f" shunt.address={network.address(index)}/24"
        bells = self._bell_arguments(index) if self._bells else []
        hardware = Hardware(
            name=f"vm{index}", accel=self.accel, kernel=self._kernel.image, initrd=self._initrd,
            append=append, memory=self.memory.memory_argument(self._memory_mib),
            machine=self.memory.machine_options(),
            extra=self.memory.arguments(self.doorbell_path()) + net + bells, fds=fds)

        def close():
            for fd in fds:
                os.close(fd)

        return hardware, close

    def _bell_arguments(self, index):
        """The lower number listens, the higher one connects, again and again: either may go and come."""
        arguments = []
        ports = [("host", self.host_bell(index), "server=on,wait=off")]
        for other in range(self._count):
            if other != index:
                path = self._bell_path(min(index, other), max(index, other))
                ports.append((f"vm{other}", path, "server=on,wait=off" if index < other else "reconnect=1"))
        for name, path, how in ports:
            arguments += ["-chardev", f"socket,id=bell-{name},path={path},{how}", "-device",
                          f"virtserialport,bus=ports.0,chardev=bell-{name},name=bell.{name}"]
        return arguments
