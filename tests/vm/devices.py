"""A window on the guests' devices, made on the host: shown alike by all, and bad input refused in words by each."""
import os
import struct

from vm import CommandFailed, Guests, window
from vm.case import main, parser, say, timed
from vm.memory import MIB
from vm.window import GUEST_ROOT, HOST, Window

SHUNT = f"{GUEST_ROOT}/bin/shunt"
SHUNTD = f"{GUEST_ROOT}/bin/shuntd"


def refused(guest, line, *parts):
    """The command fails with one line on stderr that has these parts."""
    with guest.start(line) as command:
        assert command.wait(20) == 1, (line, command.errors())
        errors = command.errors()
    assert len(errors.splitlines()) == 1, errors
    for part in parts:
        assert part in errors, (part, errors)
    say(f"    {errors.strip()}")


def patched(path, offset, data):
    with open(path, "r+b") as f:
        f.seek(offset)
        old = f.read(len(data))
        f.seek(offset)
        f.write(data)
    return old


def check_seen_alike(w):
    seen = [w.show(place) for place in w.places]
    for other in seen[1:]:
        assert other["generation"] == seen[0]["generation"], seen
        assert other["device"]["areas"] == seen[0]["device"]["areas"], seen
        assert [p["name"] for p in other["partitions"]] == [p["name"] for p in seen[0]["partitions"]]
    for place in w.places:
        states = {p["name"]: p["driver"] for p in w.show(place)["partitions"]}
        assert set(states.values()) == {"up"}, (place, states)


def check_one_driver_each(w):
    """Two guests started with one partition's name: the second driver goes, the first stays."""
    first = w.partition("vm0")
    words = f"{SHUNTD} --window {w.guest_device} --partition vm0"
    refused(w.guests[1], words, "'vm0'", "driver")
    refused(w.guests[0], words, "'vm0'", "already has its driver")
    assert w.partition("vm0")["generation"] == first["generation"]
    assert w.drivers[0].running() and w.drivers[1].running()


def check_bad_devices(guests, w):
    guest = guests[1]
    device, path, base = w.guest_device, guests.memory.path, guests.memory.offset
    show = f"{SHUNT} window show {device}"
    drive = f"{SHUNTD} --window {device} --partition vm1"
    magic = patched(path, base, bytes(8))
    refused(guest, drive, device, "not formatted" if not any(magic) else "its making was cut short")
    patched(path, base, b"$SHUNTW2")
    refused(guest, drive, device, "another version")
    refused(guest, show, device, "another version")
    patched(path, base, magic)
    version = patched(path, base + 8, struct.pack("<I", 9))
    refused(guest, drive, device, "another version")
    patched(path, base + 8, version)
    byte = patched(path, base + 4096 + 70, b"\xff")
    refused(guest, drive, device, "damaged")
    patched(path, base + 4096 + 70, byte)
    head = patched(path, base, bytes(4 * 4096 + 8192 + 4096))
    refused(guest, drive, device, "not formatted")
    refused(guest, f"{SHUNT} window destroy {device}", device, "not formatted")
    patched(path, base, head)
    refused(guest, f"{SHUNT} window create {device} --partition vm0=10.77.0.1 --partition vm1=10.77.0.2", device,
            "holds a window", "--force")
    partitions = " ".join(f"--partition p{i}=10.78.0.{i + 1}" for i in range(64))
    refused(guest, f"{SHUNT} window create {device} --force {partitions}", device, "too small")
    refused(guest, f"{SHUNTD} --window {device} --partition nobody", "no partition 'nobody'")
    node = f"{guests.memory.device}"
    guest.run(f"chmod 600 {node}")
    refused(guest, f"busybox su -s /bin/sh nobody -c '{SHUNT} window show {device}'", device, "no permission")
    assert w.show()["partitions"][0]["name"] == "vm0"


def check_truncated(guests, w):
    """The host's file: guests keep the size that their device had."""
    path = os.path.join(os.path.dirname(guests.memory.path), "vm-short")
    with open(path, "wb") as short, open(guests.memory.path, "rb") as whole:
        short.write(whole.read(guests.memory.offset + 8 * MIB))
    for words in (("show", path), ("destroy", path)):
        try:
            w.shunt(HOST, "window", *words)
            raise AssertionError("a truncated file was taken")
        except RuntimeError as e:
            assert "truncated" in str(e) or "too small" in str(e), e
            say(f"    {e}")
    os.unlink(path)


def test(options):
    size = 128 * MIB
    with Guests(2, backing=options.backing, size=size, programs=window.programs()) as guests:
        with Window(guests, notify=options.notify) as w:
            timed("seen alike", check_seen_alike, w)
            timed("one driver each", check_one_driver_each, w)
            drivers = [w.drivers.pop(place) for place in list(w.drivers)]
            for driver in drivers:
                driver.end()
            timed("bad input", check_bad_devices, guests, w)
            timed("truncated", check_truncated, guests, w)
            w.shunt(HOST, "window", "destroy", guests.memory.path)
            try:
                guests[0].run(f"{SHUNT} window show {w.guest_device}")
                raise AssertionError("a destroyed window was shown")
            except CommandFailed as e:
                assert "not formatted" in str(e), e


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--backing", choices=["ivshmem", "nvdimm", "pmem"], default="ivshmem")
    arguments.add_argument("--notify", choices=["poll", "interrupt"], default="interrupt")
    main(test, arguments.parse_args())
