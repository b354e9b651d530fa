#!/usr/bin/env python3
"""The check of calls finds what it is there for: each case compiles a few small files into a build tree of its own.

The compiler is $CXX, or c++.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
import calls  # noqa: E402

TABLE = """
| folder | what | may include |
|---|---|---|
| low | x | |
| house/cellar | x | low |
| house/hall | x | house/* low |
| house/roof | x | house/* low |
| sky | x | house low |
| tower | x | low |
"""
CLEAN = {
    "low/base.cc": "int base() { return 1; }",
    "house/cellar/coal.cc": "int base(); int coal(int* heat) { return *heat + base(); }",
    "house/hall/door.cc": "int coal(int*); int door() { int heat = 1; return coal(&heat); }",
    "house/roof/tile.cc": "namespace roof { int tiles = 3; int tile(long) { return tiles; } }",
    "sky/sun.cc": "namespace roof { int tile(long); } int sun() { return roof::tile(1); }",
    "tower/bell.cc": "int ring() { return 1; }",
}


def compile_into(root: pathlib.Path, source: str, text: str) -> None:
    folder, _, rest = source.partition("/")
    target = root / "build" / "src" / folder / "CMakeFiles" / f"shunt_{folder}.dir" / (rest + ".o")
    target.parent.mkdir(parents=True, exist_ok=True)
    (root / "src" / source).write_text(text)
    command = [os.environ.get("CXX", "c++"), "-O1", "-fPIC", "-c", root / "src" / source, "-o", target]
    subprocess.run(command, check=True)


class CallsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        tree = tempfile.TemporaryDirectory()
        cls.addClassCleanup(tree.cleanup)
        cls.clean = pathlib.Path(tree.name)
        for row in ("low", "house/cellar", "house/hall", "house/roof", "sky", "tower"):
            (cls.clean / "src" / row).mkdir(parents=True)
        (cls.clean / "src" / "README.md").write_text(TABLE)
        for source, text in CLEAN.items():
            compile_into(cls.clean, source, text)

    def setUp(self):
        tree = tempfile.TemporaryDirectory()
        self.addCleanup(tree.cleanup)
        self.root = pathlib.Path(tree.name) / "tree"
        shutil.copytree(self.clean, self.root)

    def check(self, files: dict[str, str], show_circles: bool = False) -> tuple[list[str], list[str]]:
        for source, text in files.items():
            compile_into(self.root, source, text)
        return calls.check(self.root, self.root / "build", show_circles)

    def test_calls_down(self):
        problems, lines = self.check({})
        self.assertEqual(problems, [])
        self.assertEqual(lines[1], "house: 3 objects, 1 calls between rooms, 1 to folders below, no call goes up; "
                                   "no two call each other in a circle")

    def test_call_up_the_rooms(self):
        problems, lines = self.check({"house/hall/up.cc": "namespace roof { int tile(long); }\n"
                                                          "int up() { return roof::tile(2); }"})
        self.assertEqual(problems, ["src/house/hall/up.cc uses roof::tile(long) of src/house/roof/tile.cc: "
                                    "house/hall may not use house/roof"])
        self.assertIn("1 call goes up", lines[1])

    def test_call_up_the_folders(self):
        problems, _ = self.check({"low/up.cc": "int sun(); int up() { return sun(); }"})
        self.assertEqual(problems, ["src/low/up.cc uses sun() of src/sky/sun.cc: low may not use sky"])

    def test_data_of_a_room_above(self):
        problems, _ = self.check({"house/cellar/up.cc": "namespace roof { extern int tiles; }\n"
                                                        "int* up() { return &roof::tiles; }"})
        self.assertRegex(problems[0], "up.cc uses roof::tiles of src/house/roof/tile.cc")

    def test_inline_definitions_belong_to_nobody(self):
        shared = "inline int __attribute__((noinline)) both(int x) { return x * 3; }\n"
        problems, _ = self.check({"house/cellar/in.cc": shared + "int in(int x) { return both(x); }",
                                  "house/roof/out.cc": shared + "int out(int x) { return both(x); }"})
        self.assertEqual(problems, [])

    def test_circle_of_rooms(self):
        problems, _ = self.check({"house/cellar/coal.cc": "int door(); int coal(int*) { return door(); }"})
        self.assertRegex(problems[0], r"uses door\(\) of src/house/hall/door.cc")
        self.assertEqual(problems[1], "rooms in a circle: house/cellar house/hall")

    def test_circle_of_units(self):
        files = {"house/roof/tile.cc": "int beam(); namespace roof { int tile(long) { return beam(); } }",
                 "house/roof/beam.cc": "namespace roof { int tile(long); } int beam() { return roof::tile(0); }"}
        problems, lines = self.check(files, show_circles=True)
        self.assertEqual(problems, [])
        self.assertRegex(lines[1], "no call goes up; 2 of them call each other in a circle")
        self.assertEqual(lines[2:5], ["  a circle of 2:", "    house/roof/beam.cc -> house/roof/tile.cc",
                                      "    house/roof/tile.cc -> house/roof/beam.cc"])

    def test_folders_that_are_never_linked_together(self):
        problems, _ = self.check({"tower/bell.cc": "int sun(); int ring() { return sun(); }"})
        self.assertEqual(problems, [])

    def test_folders_that_a_third_one_links_together(self):
        table = TABLE + "| hill | x | sky tower house low |\n"
        (self.root / "src" / "README.md").write_text(table)
        (self.root / "src" / "hill").mkdir()
        problems, _ = self.check({"tower/bell.cc": "int sun(); int ring() { return sun(); }"})
        self.assertEqual(problems, ["src/tower/bell.cc uses sun() of src/sky/sun.cc: tower may not use sky"])

    def test_source_without_an_object(self):
        (self.root / "src" / "low" / "late.cc").write_text("int late();")
        problems, _ = self.check({})
        self.assertRegex(problems[0], "src/low/late.cc: not built")

    def test_object_without_a_source(self):
        compile_into(self.root, "house/cellar/old.cc", "int door(); int old() { return door(); }")
        (self.root / "src" / "house" / "cellar" / "old.cc").unlink()
        self.assertEqual(self.check({})[0], [])

    def test_tests_call_whom_they_like(self):
        problems, _ = self.check({"house/cellar/coal_test.cc": "int door(); int test() { return door(); }"})
        self.assertEqual(problems, [])


class CirclesTest(unittest.TestCase):
    def test_largest_first(self):
        graph = {"a": {"b"}, "b": {"a"}, "c": {"d", "a"}, "d": {"e"}, "e": {"c"}, "f": {"f", "a"}}
        self.assertEqual(calls.circles(graph), [["c", "d", "e"], ["a", "b"]])


if __name__ == "__main__":
    unittest.main()
