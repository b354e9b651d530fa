"""What the tests of the command line share: running `shunt`, and a directory for each test."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

SHUNT = os.environ["SHUNT_BIN"]
STAND_IN = os.environ["PROVIDER_STAND_IN"]
IS_ROOT = os.geteuid() == 0
STRANGER = 65534


class CliTestCase(unittest.TestCase):
    def setUp(self):
        # Short, because the names of sockets in a window are limited.
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="shunt-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def run_command(self, *command, user=None, **environment):
        inherited = {key: value for key, value in os.environ.items()
                     if not key.startswith("SHUNT_") and key != "LD_PRELOAD"}
        return subprocess.run([str(word) for word in command], text=True, capture_output=True, timeout=60,
                              stdin=subprocess.DEVNULL, env={**inherited, **environment}, user=user)

    def shunt(self, *words, **environment):
        return self.run_command(SHUNT, *words, SHUNT_LIBRARY=STAND_IN, **environment)

    def assert_fails(self, result, status, *parts):
        """One line on stderr with these parts in it, nothing on stdout, that status."""
        self.assertEqual(result.returncode, status, result)
        self.assertEqual(result.stdout, "")
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        for part in ("shunt", *parts):
            self.assertIn(str(part), result.stderr)

    def assert_succeeds(self, result):
        self.assertEqual((result.returncode, result.stderr), (0, ""), result)
        return result.stdout

    def make_window(self, *partitions):
        window = self.dir / "w"
        words = [word for partition in partitions or ("a=10.77.0.1", "b=10.77.0.2,10.77.1.2")
                 for word in ("--partition", partition)]
        self.assert_succeeds(self.shunt("window", "create", window, *words))
        return window

    def untrusted_places(self):
        """Directories with a window in which somebody else could exchange it, and what is said of each."""
        window = self.make_window()
        os.chmod(self.dir, 0o777)
        yield window, (window, f"everybody can write {self.dir}", f"chmod o-w {self.dir}")
        os.chmod(self.dir, 0o1777)
        os.chmod(window, 0o777)
        yield window, (window, "everybody can write the directory", f"chmod o-w {window}")
        os.chmod(window, 0o755)
        if IS_ROOT:
            os.chown(window, STRANGER, STRANGER)
            yield window, (window, f"belongs to uid {STRANGER}", "root or you (uid 0)")
            os.chown(window, 0, 0)

    def make_program(self, name, content, mode):
        path = self.dir / name
        path.write_bytes(content)
        path.chmod(mode)
        return path
