#!/usr/bin/env python3
"""The bench's arithmetic, and its cgroups in a tree that plays /sys/fs/cgroup."""
import os
import sys
import tempfile
import types
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
# pylint: disable=wrong-import-position
from harness import memory, table  # noqa: E402
from harness.carriers import CARRIERS  # noqa: E402
from harness.errors import Failed, Unavailable  # noqa: E402
from harness.rounds import run_rounds  # noqa: E402
from harness.rows import MORE, Experiment, Row  # noqa: E402
from sets.connect import calls_of  # noqa: E402

ROW = Row("rate", "a rate", "1/s", MORE)


class Table(unittest.TestCase):
    def test_figures(self):
        for value, text in ((12345.6, "12 346"), (99.94, "99.9"), (4.567, "4.57"), (0.0123, "0.012"),
                            (0.00123, "0.00123"), (0, "0"), (2.0, "2"), (-0.5, "-0.500")):
            self.assertEqual(table.figure(value), text)

    def test_spread(self):
        self.assertEqual(table.spread([3.0, 1.0, 2.0]), "2 (1 to 3)")
        self.assertEqual(table.spread([1.0, 1.0]), "1")

    def test_ratio_is_taken_round_by_round(self):
        self.assertEqual(table.ratio([10, 20, 90], [10, 10, 30]), 2)  # of 1, 2 and 3; the medians' would be 2 too
        self.assertEqual(table.ratio([1, 100, 3], [1, 50, 300]), 1)   # of 1, 2 and 0.01; the medians' would be 0.06
        self.assertIsNone(table.ratio([1], [0]))
        self.assertIsNone(table.ratio([1], None))


class Rounds(unittest.TestCase):
    def run_all(self, run):
        return run_rounds(None, [Experiment((ROW,), run)], CARRIERS, 3, lambda _text, _passing: None)

    def test_carriers_take_turns(self):
        order = []
        results = self.run_all(lambda _stage, carrier: order.append(carrier.name) or {"rate": len(order)})
        self.assertEqual(order, ["tcp", "unix", "shunt"] * 3)
        self.assertEqual(results.values["rate", "shunt"], [3, 6, 9])
        self.assertIn("6 (3 to 9)", "\n".join(table.lines([ROW], CARRIERS, results, {})))

    def test_a_reason_in_the_place_of_figures(self):
        for fault in (Failed, Unavailable):
            def run(_stage, carrier, error=fault):
                if carrier.shunted:
                    raise error("it is so")
                return {"rate": 1.0}
            results = self.run_all(run)
            self.assertEqual(results.failed, fault is Failed)
            reason = "round 1: it is so" if fault is Failed else "it is so"
            self.assertIn(f"no figure: rate (Shunt): {reason}", list(table.lines([ROW], CARRIERS, results, {})))
            cells = table.as_json([ROW], CARRIERS, results, {})[0]["carriers"]
            self.assertEqual((cells["tcp"]["values"], cells["shunt"]["reason"]), ([1.0] * 3, reason))


class Readings(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()  # pylint: disable=consider-using-with
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def test_strace_summary(self):
        path = self.write("calls", "% time     seconds  usecs/call     calls    errors syscall\n"
                                   "------ ----------- ----------- --------- --------- ----------------\n"
                                   " 60.00    0.000100           1       100         2 recvfrom\n"
                                   " 40.00    0.000050           1        50           close\n"
                                   "------ ----------- ----------- --------- --------- ----------------\n"
                                   "100.00    0.000150           1       150         2 total\n")
        self.assertEqual(calls_of(path), 148)  # without two looks that found nothing
        self.assertRaises(Failed, calls_of, self.write("empty", ""))

    def test_cgroup_beside_the_own_one(self):
        mounts = self.write("mounts", f"cgroup2 {self.folder}/cg cgroup2 rw 0 0\n")
        membership = self.write("membership", "0::/user/session\n")
        for place, handed_on in (("", "cpu memory"), ("user", "memory pids"), ("user/session", "")):
            self.write(f"cg/{place}/cgroup.subtree_control", handed_on)
            self.write(f"cg/{place}/cgroup.procs", "")
        # A directory of a real cgroup tree is born with its files; here none are, so nothing can be measured.
        self.assertIsInstance(memory.choose_meter(mounts, membership), memory.ProcMeter)
        made, mkdir = [], os.mkdir

        def born_with_files(path):
            mkdir(path)
            made.append(path)
            with open(os.path.join(path, "memory.current"), "w", encoding="ascii") as f:
                f.write("4096\n")
        self.addCleanup(setattr, os, "mkdir", mkdir)
        os.mkdir = born_with_files
        meter = memory.choose_meter(mounts, membership)
        self.assertEqual({os.path.dirname(path) for path in made}, {f"{self.folder}/cg/user"})
        self.assertEqual(meter.both(types.SimpleNamespace()), 8192)
        self.assertEqual(meter.cgroup("server"), made[0])

    def test_without_cgroups(self):
        self.assertIsInstance(memory.choose_meter("/nowhere", "/nowhere"), memory.ProcMeter)


if __name__ == "__main__":
    unittest.main()
