"""`shuntd` on the command line: started once for a partition, shown, and every line of refusal."""

import json
import os
import signal
import subprocess
import unittest

from cli_testing import CliTestCase

SHUNTD = os.environ["SHUNTD_BIN"]


class DriverTest(CliTestCase):
    def start(self, window, partition, *words):
        """A driver that is ready to set connections up."""
        read_end, write_end = os.pipe()
        driver = subprocess.Popen([SHUNTD, "--window", window, "--partition", partition, "--log-level", "off",
                                   "--ready-fd", str(write_end), *words], pass_fds=(write_end,))
        self.addCleanup(self.stop, driver)
        os.close(write_end)
        with os.fdopen(read_end) as ready:
            self.assertEqual(ready.readline(), "ready\n")
        return driver

    def stop(self, driver, how=signal.SIGTERM):
        if driver.poll() is None:
            driver.send_signal(how)
        return driver.wait(timeout=20)

    def drive(self, *words):
        return self.run_command(SHUNTD, *words)

    def drivers(self, window):
        shown = json.loads(self.assert_succeeds(self.shunt("window", "show", window, "--json")))
        return {p["name"]: (p["driver"], p["pid"]) for p in shown["partitions"]}

    def test_window_that_somebody_else_could_exchange(self):
        for window, parts in self.untrusted_places():
            self.assert_fails(self.drive("--window", window, "--partition", "a"), 1, *parts)
        self.start(self.dir / "w", "a")

    def test_one_driver_for_each_partition(self):
        window = self.make_window()
        for notify in ("poll", "interrupt"):
            first = self.start(window, "a", "--notify", notify)
            self.assertEqual(self.drivers(window), {"a": ("up", first.pid), "b": ("down", 0)})
            before = sorted(os.listdir(window))
            second = self.drive("--window", window, "--partition", "a")
            self.assert_fails(second, 1, "'a'", first.pid)
            self.assertEqual(sorted(os.listdir(window)), before)
            other = self.start(window, "b")
            self.assertEqual(self.drivers(window), {"a": ("up", first.pid), "b": ("up", other.pid)})
            self.assertEqual(self.stop(other), 0)
            self.assertEqual(self.stop(first), 0)
            self.assertEqual(self.drivers(window), {"a": ("down", 0), "b": ("down", 0)})

    def test_no_warning_when_the_driver_runs(self):
        window = self.make_window()
        self.start(window, "a")
        result = self.shunt("run", "--window", window, "--partition", "a", "--", "echo", "on")
        self.assertEqual(self.assert_succeeds(result), "on\n")

    def test_a_killed_driver_is_down_and_can_be_followed(self):
        window = self.make_window()
        self.assertEqual(self.stop(self.start(window, "a"), signal.SIGKILL), -signal.SIGKILL)
        self.assertEqual(self.drivers(window)["a"], ("down", 0))
        again = self.start(window, "a")
        self.assertEqual(self.drivers(window)["a"], ("up", again.pid))

    def test_a_window_in_use_is_not_destroyed(self):
        window = self.make_window()
        driver = self.start(window, "a")
        self.assert_fails(self.shunt("window", "destroy", window), 1, "in use", driver.pid)
        self.assertEqual(self.drivers(window)["a"], ("up", driver.pid))
        self.stop(driver)
        self.assert_succeeds(self.shunt("window", "destroy", window))
        self.assertFalse(window.exists())

    def test_bad_windows(self):
        self.assert_fails(self.drive("--window", "/no/window", "--partition", "a"), 1, "no such directory")
        self.assert_fails(self.drive("--window", self.dir, "--partition", "a"), 1, "not a window")
        window = self.make_window()
        before = sorted(os.listdir(window))
        self.assert_fails(self.drive("--window", window, "--partition", "x"), 1, "no partition 'x'", "a, b")
        table = bytearray((window / "table").read_bytes())
        table[8] += 1
        (window / "table").write_bytes(table)
        self.assert_fails(self.drive("--window", window, "--partition", "a"), 1, "another version")
        self.assertEqual(sorted(os.listdir(window)), before)


if __name__ == "__main__":
    unittest.main()
