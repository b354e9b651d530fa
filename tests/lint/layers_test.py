#!/usr/bin/env python3
"""The layer check finds what it is there for: each case is a small tree with one thing wrong."""

import pathlib
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
import layers  # noqa: E402

TABLE = "| folder | what | may include |\n|---|---|---|\n| low | x | |\n| high | x | low |\n"
HEADER = "// What it is for.\n#pragma once\n"


class LayersTest(unittest.TestCase):
    def problems(self, files: dict[str, str]) -> list[str]:
        with tempfile.TemporaryDirectory() as name:
            root = pathlib.Path(name)
            for path, text in {"README.md": TABLE, "low/a.h": HEADER, "high/b.h": HEADER, **files}.items():
                (root / "src" / path).parent.mkdir(parents=True, exist_ok=True)
                (root / "src" / path).write_text(text)
            return layers.check(root)

    def test_clean_tree(self):
        self.assertEqual(self.problems({"high/b.cc": '#include "low/a.h"\n#include <vector>\n'}), [])

    def test_upward_include(self):
        self.assertRegex(self.problems({"low/a.cc": '#include "high/b.h"\n'})[0], "a.cc:1.*low may not include high")

    def test_include_without_folder(self):
        self.assertRegex(self.problems({"low/a.cc": '#include "a.h"\n'})[0], "write the path from src/")

    def test_include_by_dots(self):
        self.assertRegex(self.problems({"low/a.cc": '#include "low/../high/b.h"\n'})[0], "path from src/")

    def test_header_without_pragma_or_comment(self):
        self.assertEqual(len(self.problems({"low/c.h": "int x();\n"})), 2)

    def test_cmake_dependency(self):
        text = "shunt_layer(low GUEST DEPENDS high)\n"
        self.assertRegex(self.problems({"low/CMakeLists.txt": text})[0], "shunt_low may not depend on high")

    def test_folder_without_a_row(self):
        self.assertRegex(self.problems({"other/a.h": HEADER})[0], "src/other: not in the table")

    def test_cycle_in_the_table(self):
        table = TABLE.replace("| low | x | |", "| low | x | high |")
        self.assertRegex(self.problems({"README.md": table})[0], "low names high")

    def test_row_twice(self):
        self.assertRegex(self.problems({"README.md": TABLE + "| low | x | |\n"})[0], "low has two rows")

    def test_only_tests_include_what_tests_need(self):
        files = {"low/test_pair.h": HEADER, "low/a_test.cc": '#include "low/test_pair.h"\n'}
        self.assertEqual(self.problems(files), [])
        files["high/b.cc"] = '#include "low/test_pair.h"\n'
        self.assertRegex(self.problems(files)[0], "high/b.cc:1: only tests may include low/test_pair.h")


ROOMS = """
| folder | what | may include |
|---|---|---|
| low | x | |
| house/cellar | x | low |
| house/hall | x | house/cellar low |
| house/roof | x | house/* low |
| house/testing | tests only | house/* low |
| tower/core | x | low |
| tower | x | tower/* low |
| sky | x | house low |
"""


class RoomsTest(unittest.TestCase):
    """The same with folders that are divided into rooms."""

    def problems(self, files: dict[str, str], table: str = ROOMS) -> list[str]:
        rooms = ["low", "house/cellar", "house/hall", "house/roof", "house/testing", "tower/core", "tower", "sky"]
        with tempfile.TemporaryDirectory() as name:
            src = pathlib.Path(name) / "src"
            for room in rooms:
                (src / room).mkdir(parents=True, exist_ok=True)
                head = "test_x.h" if room == "house/testing" else "x.h"
                (src / room / head).write_text(HEADER)
            for path, text in {"README.md": table, **files}.items():
                (src / path).parent.mkdir(parents=True, exist_ok=True)
                (src / path).write_text(text)
            return layers.check(pathlib.Path(name))

    def includes(self, path: str, *targets: str) -> list[str]:
        return self.problems({path: "".join(f'#include "{target}"\n' for target in targets)})

    def test_down_the_rooms(self):
        self.assertEqual(self.includes("house/roof/y.cc", "house/cellar/x.h", "house/hall/x.h", "low/x.h"), [])
        self.assertEqual(self.includes("house/hall/y.cc", "house/cellar/x.h"), [])

    def test_up_the_rooms(self):
        self.assertRegex(self.includes("house/cellar/y.cc", "house/hall/x.h")[0],
                         "src/house/cellar/y.cc:1: house/cellar may not include house/hall")
        self.assertRegex(self.includes("house/hall/y.h", "house/roof/x.h")[-1], "no #pragma once")
        self.assertRegex(self.includes("house/hall/y.h", "house/roof/x.h")[0], "house/hall may not include house/roof")

    def test_a_star_means_rows_above_only(self):
        table = ROOMS.replace("| house/hall | x | house/cellar low |", "| house/hall | x | house/* low |")
        files = {"house/hall/y.cc": '#include "house/roof/x.h"\n'}
        self.assertRegex(self.problems(files, table)[0], "house/hall may not include house/roof")

    def test_a_folder_stands_for_its_rooms(self):
        self.assertEqual(self.includes("sky/y.cc", "house/cellar/x.h", "house/roof/x.h"), [])
        self.assertRegex(self.includes("sky/y.cc", "tower/core/x.h")[0], "sky may not include tower/core")
        self.assertRegex(self.includes("low/y.cc", "house/roof/x.h")[0], "low may not include house/roof")

    def test_the_longest_row(self):
        self.assertEqual(self.includes("tower/y.cc", "tower/core/x.h"), [])
        self.assertRegex(self.includes("tower/core/y.cc", "tower/x.h")[0], "tower/core may not include tower ")

    def test_tests_include_every_room_of_their_folder(self):
        for name in ("y_test.cc", "test_y.h", "y_test_util.h", "y_support_test.h"):
            text = HEADER + '#include "house/roof/x.h"\n#include "house/testing/test_x.h"\n'
            self.assertEqual(self.problems({f"house/cellar/{name}": text}), [], name)
            text = HEADER + '#include "tower/core/x.h"\n'
            self.assertRegex(self.problems({f"house/cellar/{name}": text})[0], "may not include tower/core", name)

    def test_testing_is_for_tests(self):
        self.assertRegex(self.includes("house/roof/y.cc", "house/testing/test_x.h")[0], "roof may not include")
        self.assertRegex(self.includes("sky/y.cc", "house/testing/test_x.h")[0], "only tests may include")
        self.assertRegex(self.problems({"house/testing/y.h": HEADER})[0], "house/testing/y.h: testing holds tests")

    def test_room_without_a_row(self):
        self.assertRegex(self.problems({"house/attic/y.h": HEADER})[0], "src/house/attic: not in the table")
        self.assertRegex(self.problems({"tower/attic/y.h": HEADER})[0], "src/tower/attic: not in the table")

    def test_file_beside_the_rooms(self):
        self.assertRegex(self.problems({"house/y.h": HEADER})[0], "src/house/y.h: not in the table")
        self.assertEqual(self.problems({"tower/y.h": HEADER}), [])

    def test_row_without_a_room(self):
        problems = self.problems({}, ROOMS.replace("| house/testing", "| house/attic | x | |\n| house/testing"))
        self.assertEqual(problems, ["src/README.md: no folder src/house/attic"])

    def test_rows_that_name_rows_below(self):
        for cell in ("house/cellar low", "house", "tower", "house/attic", "house/hall"):
            table = ROOMS.replace("| house/cellar | x | low |", f"| house/cellar | x | {cell} |")
            self.assertRegex("".join(self.problems({}, table)), "house/cellar names (house|tower)", cell)
        table = ROOMS.replace("| tower/core | x | low |", "| tower/core | x | tower low |")
        self.assertRegex(self.problems({}, table)[0], "tower/core names tower, which is no row above it")

    def test_cmake_dependency(self):
        text = "shunt_layer(house GUEST DEPENDS low)\n"
        self.assertEqual(self.problems({"house/CMakeLists.txt": text}), [])
        text = "shunt_layer(house GUEST DEPENDS tower low)\n"
        self.assertRegex(self.problems({"house/CMakeLists.txt": text})[0], "shunt_house may not depend on tower")


if __name__ == "__main__":
    unittest.main()
