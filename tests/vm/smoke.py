"""The harness itself: guests boot, share memory with each other and with the host, die and come back."""
import os
import random
import socket
import statistics

from vm import CommandFailed, GuestFailed, Guests
from vm.case import main, parser, say, timed
from vm.memory import MIB, PCI_ADDRESS

SIZE = 32 * MIB
PIECE = 1 * MIB
PLACE = 4 * MIB  # in the shared memory, where a program begins


def on_host(guests, data=None):
    """What the host sees of the piece; or writes it."""
    with open(guests.memory.path, "r+b") as f:
        f.seek(guests.memory.offset + PLACE)
        return f.read(PIECE) if data is None else f.write(data)


def in_guest(guests, guest, data=None):
    where = f"vm_probe {guests.memory.device} {PLACE} {2 * MIB}"
    if data is None:
        return guest.run_bytes(f"{where} read {PIECE}")
    return guest.run(f"{where} write", stdin=data)


def check_memory(guests):
    writers = [lambda data, g=guest: in_guest(guests, g, data) for guest in guests]
    writers.append(lambda data: on_host(guests, data))
    for number, write in enumerate(writers):
        data = random.Random(number).randbytes(PIECE)
        write(data)
        for guest in guests:
            assert in_guest(guests, guest) == data, f"{guest.name} does not see what {number} wrote"
        assert on_host(guests) == data, f"the host does not see what {number} wrote"


def check_commands(guests):
    guest = guests[0]
    data = random.Random(7).randbytes(3 * MIB)
    guest.put("/tmp/data", data)
    assert guest.get("/tmp/data") == data
    assert guest.start("echo no >&2; exit 3").wait() == 3
    try:
        guest.run("echo no >&2; exit 3")
        raise AssertionError("a failing command did not fail")
    except CommandFailed as e:
        assert "exit status 3" in str(e) and "stderr: no" in str(e), e
    with guest.start("cat", stdin="hold") as cat:
        cat.give(b"one\ntwo\n")
        assert (cat.line(), cat.line()) == ("one", "two")
        cat.release()
        assert cat.wait() == 0
    with guest.start("sleep 100") as sleeper:
        sleeper.kill()
        assert sleeper.wait() == -9


def check_network(guests):
    for here in guests:
        for there in guests:
            here.run(f"ping -c 1 -W 5 {there.address}")


def check_bells(guests):
    with guests[1].start("vm_probe bell.vm0 bell-pong") as answering:
        answering.line_with("ready")
        say("  bell between guests: " + guests[0].run("vm_probe bell.vm1 bell-ping 200").strip())
    with socket.socket(socket.AF_UNIX) as bell:  # before anyone reads: a port without a host says end
        bell.connect(guests.host_bell(1))
        bell.settimeout(20)
        with guests[1].start("vm_probe bell.host bell-pong") as answering:
            answering.line_with("ready")
            bell.sendall(b"x")
            assert bell.recv(1) == b"x"


def check_doorbells(guests):
    with guests[1].start(f"vm_doorbell {PCI_ADDRESS} wait") as answering:
        number = answering.line_with("ready").split()[1]
        say("  interrupt between guests: "
            + guests[0].run(f"vm_doorbell {PCI_ADDRESS} ring {number} 200").strip())


def check_life(guests):
    """Kill, reset and pause of one guest; the other one goes on, the memory stays."""
    first, second = guests[0], guests[1]
    data = in_guest(guests, first)
    lost = second.start("sleep 100")
    second.kill()
    try:
        lost.wait(5)
        raise AssertionError("a command outlived its guest")
    except CommandFailed as e:
        assert "QEMU has ended" in str(e), e
    try:
        second.run("true")
        raise AssertionError("a killed guest ran a command")
    except GuestFailed:
        pass
    assert in_guest(guests, first) == data
    timed("boot after kill", second.boot)
    assert in_guest(guests, second) == data
    lost = second.start("sleep 100")
    timed("reset", second.reboot)
    assert not lost.running()
    assert in_guest(guests, second) == data
    for stop, go in ((second.pause, second.resume), (second.freeze, second.thaw)):
        waiting = second.start("sleep 0.1; echo awake")
        stop()
        first.run("sleep 0.5")
        assert waiting.running(), "a stopped guest ran"
        go()
        assert waiting.line() == "awake"
    check_network(guests)


def smoke(options):
    with Guests(options.guests, backing=options.backing, size=SIZE, net=options.net) as guests:
        boots = [guest.boot_s for guest in guests]
        say(f"  {options.backing}, {guests.accel}, network {guests.network.kind}: {len(guests)} guests, "
            f"boot {statistics.median(boots):.2f} s")
        timed("memory", check_memory, guests)
        timed("commands", check_commands, guests)
        timed("network", check_network, guests)
        if options.backing == "doorbell":
            timed("doorbells", check_doorbells, guests)
        timed("bells", check_bells, guests)
        if options.backing == "ivshmem":
            timed("life", check_life, guests)
        path = guests.memory.path
    assert not os.path.exists(path)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--backing", choices=["ivshmem", "doorbell", "nvdimm", "pmem"], default="ivshmem")
    arguments.add_argument("--guests", type=int, default=2)
    arguments.add_argument("--net", choices=["auto", "bridge", "mcast"], default="auto")
    main(smoke, arguments.parse_args())
