"""Shows the facts in README.md on this machine: each with the command that shows it.

    python3 tests/vm/facts.py            all of them, about two minutes under emulation
    python3 tests/vm/facts.py boot dax   some
"""
import os
import socket
import statistics
import subprocess
import time

from vm import CommandFailed, Guests
from vm.case import main, parser, say
from vm.memory import MIB, PCI_ADDRESS, PCI_DEVICE

SIZE = 64 * MIB
PINGS = 20_000
REPEATS = 5


def show(guest, line, timeout_s=60):
    """Runs a command, shows it and all that it wrote, whatever its status."""
    say(f"{guest.name}# {line}")
    command = guest.start(f"( {line} ) 2>&1")
    status = command.wait(timeout_s)
    for text in command.rest().decode(errors="replace").splitlines():
        say(f"  {text}")
    if status != 0:
        say(f"  (status {status})")


def boot():
    for backing in ("ivshmem", "doorbell", "nvdimm", "pmem"):
        times = []
        for _ in range(REPEATS):
            with Guests(2, backing=backing, size=SIZE) as guests:
                times.append(max(guest.boot_s for guest in guests))
        say(f"two guests at once, {backing}: median {statistics.median(times):.2f} s "
            f"({min(times):.2f} to {max(times):.2f})")


def hold(guest, path, offset="0"):
    return (f"sleep 1 | vm_probe {path} {offset} {SIZE} hold & sleep 0.5; "
            f"grep $(printf %016x $(awk 'NR==3 {{print $1}}' {PCI_DEVICE}/resource)) "
            f"/sys/kernel/debug/x86/pat_memtype_list; wait")


def bar():
    """BAR 2 of ivshmem: where it lies, what may map it, which memory type Linux asks for."""
    for size in (SIZE, 1024 * MIB):  # the second one does not fit below 4 GiB
        with Guests(1, size=size) as guests:
            guest = guests[0]
            say(f"-- {size // MIB} MiB")
            show(guest, f"cat {PCI_DEVICE}/vendor {PCI_DEVICE}/device; head -3 {PCI_DEVICE}/resource; "
                        f"stat -c %s {PCI_DEVICE}/resource2; ls {PCI_DEVICE}/driver")
            for name in ("resource2", "resource2_wc"):
                show(guest, hold(guest, f"{PCI_DEVICE}/{name}"))
            show(guest, hold(guest, "/dev/mem", f"$(awk 'NR==3 {{print $1}}' {PCI_DEVICE}/resource)"))
            for where in ("0 4096", "4096 4096", "100 4096", f"0 {size + 4096}"):
                show(guest, f"vm_probe {PCI_DEVICE}/resource2 {where} map")
            show(guest, f"su nobody -s /bin/sh -c 'vm_probe {PCI_DEVICE}/resource2 0 4096 map'")


def dax():
    """Device DAX over an NVDIMM and over virtio-pmem: size, alignment, what lies outside."""
    for backing in ("nvdimm", "pmem"):
        with Guests(1, backing=backing, size=SIZE, programs=["ndctl"]) as guests:
            guest = guests[0]
            say(f"-- {backing}")
            show(guest, "ls -l /dev/dax0.0; readlink -f /sys/bus/dax/devices/dax0.0; "
                        "cd /sys/bus/dax/devices/dax0.0; grep . size align resource; ls -d subsystem/")
            show(guest, "ndctl list -NR")
            show(guest, "grep -i -A3 persist /proc/iomem; grep MemTotal /proc/meminfo")
            for where in (f"0 {2 * MIB}", f"{2 * MIB} {2 * MIB}", "0 4096", f"4096 {2 * MIB}",
                          f"0 {SIZE}", f"{SIZE - 2 * MIB} {2 * MIB}"):
                show(guest, f"vm_probe /dev/dax0.0 {where} hold </dev/null")
            show(guest, "dmesg | grep dax_mmap | tail -1; dd if=/dev/dax0.0 bs=4096 count=1")


def speed():
    """Copies, and the round trip of two busy programs through one cache line each."""
    for backing in ("ivshmem", "nvdimm", "pmem"):
        with Guests(2, backing=backing, size=SIZE) as guests:
            say(f"-- {backing}")
            show(guests[0], f"vm_probe {guests.memory.device} 0 {SIZE - 2 * MIB} copy")
            for _ in range(REPEATS):
                guests[0].run(f"head -c 4096 /dev/zero | vm_probe {guests.memory.device} 0 {2 * MIB} write")
                probe = f"vm_probe {guests.memory.device} 0 {2 * MIB}"
                with guests[1].start(f"{probe} pong {PINGS}"):
                    show(guests[0], f"{probe} ping {PINGS}")


def bells():
    """What wakes a program that sleeps in another guest."""
    with Guests(2, backing="doorbell", size=SIZE) as guests:
        with guests[1].start("vm_probe bell.vm0 bell-pong") as pong:
            pong.line_with("ready")
            for _ in range(REPEATS):
                show(guests[0], "vm_probe bell.vm1 bell-ping 500")
        with guests[1].start(f"vm_doorbell {PCI_ADDRESS} wait") as waiting:
            number = waiting.line_with("ready").split()[1]
            for _ in range(REPEATS):
                show(guests[0], f"vm_doorbell {PCI_ADDRESS} ring {number} 500")
            say("-- while vfio-pci has the device open and BAR 0 mapped:")
            show(guests[1], f"vm_probe {PCI_DEVICE}/resource2 0 4096 map")
        with socket.socket(socket.AF_UNIX) as bell:
            bell.connect(guests.host_bell(1))
            with guests[1].start("vm_probe bell.host bell-pong") as pong:
                pong.line_with("ready")
                times = []
                for _ in range(500):
                    start = time.perf_counter()
                    bell.sendall(b"x")
                    bell.recv(1)
                    times.append(time.perf_counter() - start)
        say(f"host to guest and back: median {statistics.median(times) * 1e6:.0f} us")


def tcp():
    """The network that Shunt is compared with."""
    for net in ("bridge", "mcast"):
        with Guests(2, net=net, programs=["iperf3", "redis-server", "redis-benchmark"]) as guests:
            say(f"-- {net}")
            redis = guests[1].start(f"redis-server --save '' --protected-mode no --bind {guests[1].address}")
            redis.line_with("Ready to accept connections")
            with guests[1].start("iperf3 -s --forceflush") as server:
                server.line_with("listening")
                show(guests[0], f"iperf3 -c {guests[1].address} -t 3 | grep receiver")
            for connections in (1, 20):
                show(guests[0], f"redis-benchmark -h {guests[1].address} -c {connections} -n 2000 -t get --csv")


FACTS = {f.__name__: f for f in (boot, bar, dax, speed, bells, tcp)}


def facts(options):
    model = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True)
    say(f"{model.stdout.splitlines()[0]}, {os.cpu_count()} processors")
    for name in options.fact or FACTS:
        say(f"== {name}")
        try:
            FACTS[name]()
        except CommandFailed as e:
            say(f"FAILED: {e}")


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.set_defaults(limit=600)
    arguments.add_argument("fact", nargs="*", choices=[[], *FACTS], default=[])
    main(facts, arguments.parse_args())
