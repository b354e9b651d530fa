"""`shunt window` on a device, for which a file stands: made, shown, refused with a reason, removed."""

import fcntl
import hashlib
import json
import os
import pathlib
import socket
import struct
import subprocess
import unittest

from cli_testing import IS_ROOT, SHUNT, CliTestCase

MIB = 1 << 20
LEAST = 54 * MIB  # for two partitions
TWO = ("--partition", "a=10.77.0.1", "--partition", "b=10.77.0.2")


class DeviceCase(CliTestCase):
    def setUp(self):
        super().setUp()
        self.device = self.dir / "w.img"
        self.resize(64 * MIB)

    def shunt(self, *words, **environment):
        return super().shunt(*words, **{"SHUNT_RUNTIME_DIR": str(self.dir / "run"), **environment})

    def resize(self, size):
        self.device.touch()
        os.truncate(self.device, size)

    def write(self, offset, content):
        with open(self.device, "r+b") as file:
            file.seek(offset)
            file.write(content)

    def create(self, *words):
        return self.shunt("window", "create", self.device, *TWO, *words)

    def shown(self):
        return json.loads(self.assert_succeeds(self.shunt("window", "show", self.device, "--json")))

    def content(self):
        return hashlib.sha256(self.device.read_bytes()).digest()


class DeviceTest(DeviceCase):
    def assert_refused(self, *parts):
        """By every subcommand that uses the window, and nothing is overwritten."""
        before = self.content()
        for words in (("show", self.device), ("destroy", self.device)):
            self.assert_fails(self.shunt("window", *words), 1, self.device, *parts)
        self.assert_fails(self.shunt("status", "--window", self.device), 1, self.device, *parts)
        self.assertEqual(self.content(), before)

    def assert_create_fails(self, words, *parts):
        before = self.content()
        self.assert_fails(self.create(*words), 1, "shunt window create: ", self.device, *parts)
        self.assertEqual(self.content(), before)

    def test_create_show_destroy(self):
        self.assertEqual(self.assert_succeeds(self.create()), "")
        text = self.assert_succeeds(self.shunt("window", "show", self.device))
        for part in (str(self.device), "file, 64.0 MiB, 4 areas", "granule 2.0 MiB", "10.77.0.2", "down", "0 of 4"):
            self.assertIn(part, text)
        shown = self.shown()
        self.assertEqual((shown["dir"], shown["kind"]), (str(self.device), "file"))
        self.assertEqual(shown["device"], {
            "size": 64 * MIB, "object_size": 64 * MIB, "base": 0, "granule": 2 * MIB,
            "section_stride": 30 * MIB, "area_stride": 6 * MIB, "areas": 4})
        self.assertEqual([p["name"] for p in shown["partitions"]], ["a", "b"])
        self.assertEqual({p["driver"] for p in shown["partitions"]}, {"down"})
        self.assertEqual({p["arena"]["areas_used"] for p in shown["partitions"]}, {0})
        self.assertEqual(self.assert_succeeds(self.shunt("window", "destroy", self.device)), "")
        self.assertEqual(self.device.stat().st_size, 64 * MIB)
        self.assertFalse(any(self.device.read_bytes()))
        self.assert_refused("not formatted", "shunt window create")
        self.assert_succeeds(self.create())

    def test_size_and_granule(self):
        self.assert_succeeds(self.create("--size", "40m", "--granule", "4k"))
        device = self.shown()["device"]
        self.assertEqual((device["size"], device["granule"]), (40 * MIB, 4096))
        self.assert_create_fails(("--force", "--size", "65m"), "more than", str(64 * MIB))
        self.assert_create_fails(("--force", "--granule", "3m"), "bad granule")

    def test_too_small(self):
        self.resize(LEAST - 1)
        self.assert_create_fails((), "too small", "54 MiB")
        self.resize(MIB)
        self.assert_create_fails((), "too small", "54 MiB")
        self.assert_refused("too small")

    def test_not_empty(self):
        self.write(40 * MIB + 4097, b"x")
        self.assert_create_fails((), "not empty", "--force")
        self.assert_succeeds(self.create("--force"))
        self.assert_create_fails((), "holds a window with 2 partitions already", "--force")
        generation = self.shown()["generation"]
        self.assert_succeeds(self.create("--force"))
        self.assertNotEqual(self.shown()["generation"], generation)

    def test_bad_partitions_change_nothing(self):
        before = self.content()
        result = self.shunt("window", "create", self.device, "--partition", "a=10.0.0.1", "--partition", "b=10.0.0.1")
        self.assert_fails(result, 1, "claimed twice")
        self.assertEqual(self.content(), before)

    def test_damage(self):
        self.assert_refused("not formatted")
        self.assert_succeeds(self.create())
        good = self.device.read_bytes()[:8192]
        self.write(0, bytes(8))  # as long as it is being made
        self.assert_refused("its making was cut short")
        self.write(0, b"$SHUNTW2")
        self.assert_refused("another version")
        self.write(0, good[:8] + struct.pack("<I", 9))
        self.assert_refused("another version")
        self.write(0, good[:8192])
        self.write(4096 + 70, b"x")
        self.assert_refused("damaged", "checksum")
        self.write(0, good)
        self.resize(50 * MIB)
        self.assert_refused("truncated", str(64 * MIB), str(50 * MIB))
        self.resize(64 * MIB)
        self.assertEqual(self.shown()["partitions"][0]["driver"], "down")

    def test_not_a_device(self):
        os.mkfifo(self.dir / "fifo")
        for name, part in (("/dev/null", "no device DAX"), (self.dir / "fifo", "not mappable"),
                           ("pci:0000:ff:1f.7", "there is no PCI device"), ("pci:4", "bad PCI device"),
                           ("/dev/dax99.9", "No such file")):
            self.assert_fails(self.shunt("window", "create", name, *TWO), 1, part)
            self.assert_fails(self.shunt("window", "show", name), 1, part)

    def test_options_for_devices_need_one(self):
        for words in (("--force",), ("--granule", "4k")):
            result = self.shunt("window", "create", self.dir / "none", *TWO, *words)
            self.assert_fails(result, 1, "none", "truncate -s")
        self.assertEqual([path.name for path in self.dir.iterdir()], ["w.img"])

    def test_in_use(self):
        self.assert_succeeds(self.create())
        before = self.content()
        with open(self.device, "r+b") as held:
            # As a driver of partition 'a' does: F_OFD_SETLK on the section's first byte.
            lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 2 * MIB, 1, 0)
            fcntl.fcntl(held, getattr(fcntl, "F_OFD_SETLK", 37), lock)
            self.assert_fails(self.shunt("window", "destroy", self.device), 1, "in use", "'a'")
            self.assert_fails(self.create("--force"), 1, "in use", "'a'")
        self.assertEqual(self.content(), before)
        self.assert_succeeds(self.shunt("window", "destroy", self.device))

    def test_run_needs_a_driver(self):
        self.assert_succeeds(self.create())
        result = self.shunt("run", "--window", self.device, "--partition", "a", "--", "true")
        self.assert_fails(result, 125, self.device, "no driver", f"shuntd --window {self.device} --partition a")

    @unittest.skipUnless(IS_ROOT, "needs another user to look as")
    def test_no_permission(self):
        self.assert_succeeds(self.create())
        self.device.chmod(0o600)
        self.dir.chmod(0o755)
        binary = self.make_program("shunt", pathlib.Path(SHUNT).read_bytes(), 0o755)
        before = self.content()
        for words in (("show", self.device), ("destroy", self.device), ("create", self.device, *TWO)):
            result = subprocess.run([binary, "window", *words], user=65534, group=65534, extra_groups=[],
                                    text=True, capture_output=True, check=False)
            self.assert_fails(result, 1, "no permission to open", self.device)
        self.assertEqual(self.content(), before)


class RuntimeDirectoryTest(DeviceCase):
    """What a driver leaves for programs, made by hand: `shunt run` finds and checks it."""

    def setUp(self):
        super().setUp()
        self.assert_succeeds(self.create())
        shown = self.shown()
        self.runtime = pathlib.Path(shown["directory"])
        self.runtime.mkdir(parents=True)
        (self.runtime / "device").write_text(str(self.device))
        table = bytearray(self.device.read_bytes()[4096:4096 + 23616])
        table[32:36] = struct.pack("<I", 1)  # areas come from the driver
        table[40:48] = struct.pack("<Q", 6 * MIB)
        (self.runtime / "table").write_bytes(table)

    def listen(self, name):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(listener.close)
        listener.bind(str(self.runtime / name))
        listener.listen()

    def run_in(self, window, partition="a"):
        return self.shunt("run", "--window", window, "--partition", partition, "--", "env")

    def test_program_gets_the_runtime_directory(self):
        self.listen("a.driver")
        for window in (self.device, self.runtime):
            out = self.assert_succeeds(self.run_in(window))
            self.assertIn(f"SHUNT_WINDOW={self.runtime}\n", out)
            self.assertIn("SHUNT_PARTITION=a\n", out)

    def test_warning_and_refusals(self):
        result = self.run_in(self.device, "b")
        self.assertEqual(result.returncode, 0, result)
        self.assertIn("warning: the driver of partition 'b' is not running", result.stderr)
        self.assertIn(f"shuntd --window {self.device} --partition b", result.stderr)
        self.assert_fails(self.run_in(self.device, "c"), 125, "no partition 'c'", "a, b")

    def test_it_names_the_window_but_is_not_it(self):
        shown = json.loads(self.assert_succeeds(self.shunt("window", "show", self.runtime, "--json")))
        self.assertEqual((shown["dir"], shown["directory"]), (str(self.device), str(self.runtime)))
        self.assert_succeeds(self.shunt("status", "--window", self.runtime))
        result = self.shunt("window", "destroy", self.runtime)
        self.assert_fails(result, 1, self.runtime, f"shunt window destroy {self.device}")
        self.assert_succeeds(self.shunt("window", "destroy", self.device))
        self.assertFalse(self.runtime.exists())


if __name__ == "__main__":
    unittest.main()
