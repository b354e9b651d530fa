#!/usr/bin/env python3
"""The bench, quickly: every row has a value for every carrier, arguments are checked, and nothing is left behind."""
import argparse
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench.py")
build = None


def bench(*arguments, **how):
    return subprocess.run([sys.executable, BENCH, "--build", build, *arguments], capture_output=True, text=True,
                          check=False, timeout=100, **how)


def left(scratch):
    """What a run with TMPDIR=scratch has left: its files, and programs that it started."""
    found = os.listdir(scratch)
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as f:
                words = f.read().split(b"\0")
            with open(os.path.join(os.path.dirname(path), "environ"), "rb") as f:
                if f"TMPDIR={scratch}".encode() in f.read().split(b"\0"):
                    found.append(words[0].decode())
        except OSError:
            pass
    return found


class QuickTest(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.mkdtemp(prefix="shunt-bench-test-")
        self.addCleanup(shutil.rmtree, self.scratch)
        self.environment = {**os.environ, "TMPDIR": self.scratch}

    def test_every_row_has_a_value(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "out.json")
            out = bench("connect", "memory", "--quick", "--json", path, env=self.environment)
            self.assertEqual(out.returncode, 0, out.stdout + out.stderr)
            with open(path, encoding="utf-8") as f:
                result = json.load(f)
        self.assertLessEqual({"machine", "commit", "date", "command"}, set(result))
        self.assertEqual(len(result["rows"]), 16)
        for row in result["rows"]:
            self.assertIn(row["name"], out.stdout)
            for carrier in ("tcp", "unix", "shunt"):
                cell = row["carriers"][carrier]
                if row["name"].startswith("calls.") and not shutil.which("strace"):
                    self.assertIn("strace is missing", cell["reason"])
                elif row["name"] == "rate.two-cpus" and len(os.sched_getaffinity(0)) < 2:
                    self.assertIn("only one CPU", cell["reason"])
                else:
                    self.assertEqual(len(cell["values"]), 1, f"{row['name']}, {carrier}: {cell}")
        self.assertEqual(left(self.scratch), [])

    def test_an_interrupt_leaves_nothing(self):
        command = [sys.executable, BENCH, "--build", build, "memory", "--only", "drained"]
        with subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
            deadline = time.monotonic() + 20
            while not any("bench_client" in name for name in left(self.scratch)):
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.05)
            running.send_signal(signal.SIGINT)
            running.communicate(timeout=20)
        self.assertEqual(running.returncode, 130)
        self.assertEqual(left(self.scratch), [])

    def test_a_carrier_that_cannot_gives_a_reason(self):
        limited = ["prlimit", "--nofile=300", sys.executable, BENCH, "--build", build]
        out = subprocess.run([*limited, "connect", "--quick", "--only", "close"], capture_output=True, text=True,
                             check=False, timeout=60, env=self.environment)
        self.assertIn("RLIMIT_NOFILE is 300", out.stdout, out.stderr)
        self.assertEqual(left(self.scratch), [])

    def test_arguments_are_checked(self):
        for arguments, words in (
                (["connection"], ["no set 'connection'", "connect, memory"]),
                ([], ["SET"]),
                (["connect", "--rounds", "0"], ["--rounds", "'0'"]),
                (["connect", "--rounds", "many"], ["--rounds", "'many'"]),
                (["connect", "--only", "memory.idle"], ["no row 'memory.idle'", "rate.epoll"]),
                (["connect", "--json", "/nowhere/at/all.json"], ["--json", "/nowhere/at"]),
                (["connect", "--json", "/"], ["--json", "directory"])):
            out = bench(*arguments)
            self.assertEqual(out.returncode, 2, out.stderr)
            for word in words:
                self.assertIn(word, out.stderr)
        out = subprocess.run([sys.executable, BENCH, "connect", "--build", "/nowhere"], capture_output=True, text=True,
                             check=False)
        self.assertEqual(out.returncode, 1)
        self.assertIn("/nowhere/bin/shunt is missing", out.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    known, rest = parser.parse_known_args()
    build = known.build
    unittest.main(argv=[sys.argv[0], *rest])
