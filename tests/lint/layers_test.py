#!/usr/bin/env python3
"""The layer check finds what it is there for: each case is a small tree with one thing wrong."""

import pathlib
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).parent))
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


if __name__ == "__main__":
    unittest.main()
