"""`shunt window`: made whole or not at all, shown, removed; nothing that is not ours is touched."""

import json
import os
import subprocess
import unittest

from cli_testing import IS_ROOT, STRANGER, CliTestCase


class WindowTest(CliTestCase):
    def create(self, *words):
        return self.shunt("window", "create", self.dir / "w", *words)

    def assert_nothing_made(self):
        self.assertEqual(list(self.dir.iterdir()), [])

    def assert_create_fails(self, words, *parts):
        self.assert_fails(self.create(*words), 1, "shunt window create: ", *parts)
        self.assert_nothing_made()

    def test_not_made_where_somebody_else_could_exchange_it(self):
        words = ("window", "create", self.dir / "w", "--partition", "a=10.77.0.1")
        os.chmod(self.dir, 0o777)
        self.assert_fails(self.shunt(*words), 1, self.dir / "w", f"everybody can write {self.dir}")
        self.assert_nothing_made()
        os.chmod(self.dir, 0o1777)
        if IS_ROOT:
            os.mkdir(self.dir / "w")
            os.chown(self.dir / "w", STRANGER, STRANGER)
            self.assert_fails(self.shunt(*words), 1, self.dir / "w", f"belongs to uid {STRANGER}")
            self.assertEqual(os.listdir(self.dir / "w"), [])
            os.rmdir(self.dir / "w")
        self.assert_succeeds(self.shunt(*words))

    def test_create_show_destroy(self):
        window = self.make_window()
        text = self.assert_succeeds(self.shunt("window", "show", window))
        for part in (str(window), "a", "10.77.0.1", "10.77.0.2, 10.77.1.2", "down"):
            self.assertIn(part, text)
        shown = json.loads(self.assert_succeeds(self.shunt("window", "show", window, "--json")))
        self.assertEqual([p["addresses"] for p in shown["partitions"]],
                         [["10.77.0.1"], ["10.77.0.2", "10.77.1.2"]])
        self.assertEqual({p["driver"] for p in shown["partitions"]}, {"down"})
        self.assertEqual(self.assert_succeeds(self.shunt("window", "destroy", window)), "")
        self.assert_nothing_made()

    def test_size(self):
        self.assert_succeeds(self.create("--partition", "a=10.0.0.1", "--partition", "b=10.0.0.2", "--size", "4m"))
        sizes = [path.stat().st_size for path in (self.dir / "w").glob("*.section")]
        self.assertEqual(sizes, [2 << 20, 2 << 20])

    def test_bad_arguments_make_nothing(self):
        self.assert_create_fails(("--partition", "a=10.0.0.1", "--partition", "b=10.0.0.1"),
                                 "10.0.0.1", "claimed twice", "'a'", "'b'")
        self.assert_create_fails(("--partition", "a=10.0.0.1", "--partition", "a=10.0.0.2"), "'a'", "twice")
        self.assert_create_fails(("--partition", "a=10.0.0.1,10.0.0.1"), "claimed twice")
        self.assert_create_fails(("--partition", "a=10.0.0"), "bad address '10.0.0'")
        self.assert_create_fails(("--partition", "a=127.0.0.1"), "127.0.0.1")
        self.assert_create_fails(("--partition", "a"), "NAME=ADDRESS")
        self.assert_create_fails(("--partition", "a="), "no address")
        self.assert_create_fails(("--partition", "a/b=10.0.0.1"), "bad partition name 'a/b'")
        self.assert_create_fails(("--partition", "a=10.0.0.1", "--size", "100"), "too small")

    def test_usage_errors(self):
        for words in ((), ("--partition", "a=10.0.0.1", "--size", "much"), ("--partition", "a=10.0.0.1", "rest")):
            self.assert_fails(self.create(*words), 2, "shunt window create", "--help")
            self.assert_nothing_made()
        self.assert_fails(self.shunt("window"), 2, "subcommand")
        self.assert_fails(self.shunt("window", "mend", "x"), 2, "shunt window")

    def test_existing_directory(self):
        (self.dir / "w").mkdir()
        (self.dir / "w" / "precious").write_text("x")
        self.assert_fails(self.create("--partition", "a=10.0.0.1"), 1, "not empty")
        self.assertEqual([path.name for path in (self.dir / "w").iterdir()], ["precious"])
        (self.dir / "w" / "precious").unlink()
        self.assert_succeeds(self.create("--partition", "a=10.0.0.1"))

    def test_parent_missing(self):
        result = self.shunt("window", "create", self.dir / "no" / "w", "--partition", "a=10.0.0.1")
        self.assert_fails(result, 1, self.dir / "no" / "w", "No such file")
        self.assert_nothing_made()

    @unittest.skipUnless(IS_ROOT, "needs root to mount a small tmpfs")
    def test_no_space_left(self):
        mount = ("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(self.dir))
        if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            self.skipTest("may not mount here")
        self.addCleanup(subprocess.run, ("umount", str(self.dir)), check=True)
        self.assert_create_fails(("--partition", "a=10.0.0.1", "--partition", "b=10.0.0.2"),
                                 "no space left", "--size")

    def test_destroy_keeps_what_is_not_ours(self):
        self.assert_fails(self.shunt("window", "destroy", "/no/window"), 1, "/no/window", "no such directory")
        self.assert_fails(self.shunt("window", "destroy", self.dir), 1, "not a window")
        self.assertTrue(self.dir.exists())
        window = self.make_window()
        (window / "precious").write_text("x")
        before = sorted(os.listdir(window))
        self.assert_fails(self.shunt("window", "destroy", window), 1, "precious", "not destroyed")
        self.assertEqual(sorted(os.listdir(window)), before)

    def test_damaged_or_foreign_table(self):
        window = self.make_window()
        table = window / "table"
        good = table.read_bytes()

        def assert_refused(content, *parts):
            table.write_bytes(content)
            self.assert_fails(self.shunt("window", "show", window), 1, window, *parts)
            self.assert_fails(self.shunt("window", "destroy", window), 1, window, *parts)
            self.assert_fails(self.shunt("run", "--window", window, "--partition", "a", "true"), 125, *parts)
            self.assert_fails(self.shunt("status", "--window", window), 1, *parts)

        assert_refused(b"#!/bin/sh\n", "not a window")
        version = bytearray(good)
        version[8] += 1
        assert_refused(bytes(version), "another version")
        assert_refused(good[:-1], "damaged")
        table.write_bytes(good)
        self.assert_succeeds(self.shunt("window", "destroy", window))


if __name__ == "__main__":
    unittest.main()
