"""`shunt status`: from a status page in another process to what a person and a program read."""

import json
import os
import pathlib
import struct
import subprocess
import unittest

from cli_testing import IS_ROOT, SHUNT, CliTestCase

PAGE_BYTES = 3072 + 4096 * 152


class StatusPage:
    """A page as a provider makes it (src/layout/status_page.h), held by this process."""

    def __init__(self, window=""):
        self.fd = os.memfd_create("shunt-status")
        os.ftruncate(self.fd, PAGE_BYTES)
        head = struct.pack("<IHHII32s256s", 0x54534853, 1, 0, os.getpid(), 1, b"a" if window else b"",
                           window.encode())
        os.pwrite(self.fd, head, 0)
        os.pwrite(self.fd, struct.pack("<6Q", 3, 7000, 80, 1, 2, 3), len(head))
        reasons = [0] * 32
        reasons[1] = 4  # no listener
        os.pwrite(self.fd, struct.pack("<32Q", *reasons), len(head) + 48)
        local = struct.pack("<HH16s", 2, 6379, bytes([10, 77, 0, 1]))
        peer = struct.pack("<HH16s", 2, 40000, bytes([10, 77, 0, 2]))
        entry = struct.pack("<4I20s20s32s40sQQ8x", 0, 3, 1, 0, local, peer, b"b", b"", 5000, 12)
        os.pwrite(self.fd, entry, 3072)


class StatusTest(CliTestCase):
    def status_json(self, *words):
        return json.loads(self.assert_succeeds(self.shunt("status", "--json", *words)))

    def own_process(self, status):
        return next(p for p in status["processes"] if p["pid"] == os.getpid())

    def test_shows_a_program(self):
        window = self.make_window()
        page = StatusPage(str(window))
        self.addCleanup(os.close, page.fd)
        process = self.own_process(self.status_json())
        self.assertEqual((process["partition"], process["window"]), ("a", str(window)))
        self.assertEqual(process["program"], pathlib.Path("/proc/self/comm").read_text().strip())
        self.assertEqual(process["totals"]["shared_memory"],
                         {"connections": 3, "bytes_sent": 12000, "bytes_received": 92})
        self.assertEqual(process["totals"]["kernel"],
                         {"connections": 1, "bytes_sent": 2, "bytes_received": 3})
        self.assertEqual(process["reasons"], {"no-listener": 4})
        self.assertEqual(process["connections"],
                         [{"local": "10.77.0.1:6379", "peer": "10.77.0.2:40000", "peer_partition": "b",
                           "via": "shared-memory", "state": "established", "reason": None, "detail": None,
                           "bytes_sent": 5000, "bytes_received": 12}])

    def test_text(self):
        window = self.make_window()
        page = StatusPage(str(window))
        self.addCleanup(os.close, page.fd)
        text = self.assert_succeeds(self.shunt("status"))
        for part in (f"Window {window}", "10.77.0.1:6379", "10.77.0.2:40000", "a - b", "4.9 KiB",
                     "no listener under Shunt"):
            self.assertIn(part, text)
        self.assertLessEqual(max(len(line) for line in text.splitlines()), 100, text)

    def test_windows_come_from_programs_or_the_command_line(self):
        window = self.make_window()
        self.assertNotIn(str(window), [w["dir"] for w in self.status_json()["windows"]])
        self.assertEqual([w["dir"] for w in self.status_json("--window", window)["windows"]], [str(window)])
        page = StatusPage(str(window))
        self.addCleanup(os.close, page.fd)
        self.assertIn(str(window), [w["dir"] for w in self.status_json()["windows"]])

    def test_a_window_that_is_gone_is_said_to_be(self):
        page = StatusPage("/no/window")
        self.addCleanup(os.close, page.fd)
        shown = next(w for w in self.status_json()["windows"] if w["dir"] == "/no/window")
        self.assertIn("no such directory", shown["error"])
        self.assert_fails(self.shunt("status", "--window", "/no/window"), 1, "no such directory")

    def test_a_page_of_nonsense_is_counted(self):
        before = self.status_json()["pages_unreadable"]
        page = StatusPage()
        self.addCleanup(os.close, page.fd)
        os.pwrite(page.fd, os.urandom(3072), 0)
        self.assertEqual(self.status_json()["pages_unreadable"], before + 1)
        os.ftruncate(page.fd, 10)
        self.assertEqual(self.status_json()["pages_unreadable"], before + 1)

    @unittest.skipUnless(IS_ROOT, "needs another user to look as")
    def test_other_peoples_processes_are_counted(self):
        page = StatusPage()
        self.addCleanup(os.close, page.fd)
        binary = self.make_program("shunt", pathlib.Path(SHUNT).read_bytes(), 0o755)
        self.dir.chmod(0o755)
        result = subprocess.run([binary, "status", "--json"], user=65534, group=65534, extra_groups=[],
                                text=True, capture_output=True, check=True)
        status = json.loads(result.stdout)
        self.assertGreater(status["processes_hidden"], 0)
        self.assertNotIn(os.getpid(), [p["pid"] for p in status["processes"]])

    def test_help_and_version(self):
        for words in ((), ("run",), ("window",), ("window", "create"), ("window", "show"),
                      ("window", "destroy"), ("status",)):
            text = self.assert_succeeds(self.shunt(*words, "--help"))
            self.assertIn("Example" if words != ("run",) else "in two terminals", text)
            self.assertLessEqual(max(len(line) for line in text.splitlines()), 100, text)
        self.assertRegex(self.assert_succeeds(self.shunt("--version")), r"^shunt \d+\.\d+\.\d+$")
        self.assert_fails(self.shunt(), 2, "subcommand")
        self.assert_fails(self.shunt("dance"), 2, "dance")


if __name__ == "__main__":
    unittest.main()
