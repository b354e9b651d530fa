"""The table of src/README.md: which folder or room (sub-folder) of src/ may use which.

A row names a folder (`ring`), or a room of one (`sockets/bell`); a file belongs to the longest row that begins its
path. The last cell lists what the row may use besides itself: a folder, which stands for its rooms too, a room, or
`sockets/*`, the rooms of that folder whose rows lie above this one. The rows are ordered from the bottom up, and a
row may only name rows above it: so there are no circles. layers.py holds the `#include` lines against the table,
calls.py the symbols of the objects.
"""

import fnmatch
import pathlib

TEST_FILES = ("*_test.cc", "*_test.h", "*_test_util.h", "test_*.h")


def is_test(path: str) -> bool:
    """Tests and what only tests include."""
    return any(fnmatch.fnmatchcase(path.rpartition("/")[2], pattern) for pattern in TEST_FILES)


def folder_of(row: str) -> str:
    return row.partition("/")[0]


def covers(row: str, path: str) -> bool:
    return path == row or path.startswith(row + "/")


class Law:
    def __init__(self, readme: pathlib.Path):
        self.cells: dict[str, list[str]] = {}
        self.twice: list[str] = []
        in_table = False
        for line in readme.read_text(encoding="utf-8").splitlines():
            if not line.startswith("|"):
                in_table = False
                continue
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if cells[0] == "folder":
                in_table = True
            elif in_table and not cells[0].startswith("-"):
                self.twice += [cells[0]] if cells[0] in self.cells else []
                self.cells[cells[0]] = cells[-1].split()
        self.rows = list(self.cells)
        self.allowed = {row: {named for name in names for named in self.named(name, row)}
                        for row, names in self.cells.items()}

    def named(self, name: str, row: str) -> set[str]:
        """The rows that `name` stands for in the row's last cell."""
        if name.endswith("/*"):
            return {above for above in self.rows[:self.rows.index(row)] if above.startswith(name[:-1])}
        return {other for other in self.rows if covers(name, other)}

    def row_of(self, path: str) -> str | None:
        """The row of a file or folder, whose path begins below src/."""
        return max((row for row in self.rows if covers(row, path)), key=len, default=None)

    def rows_in(self, folder: str) -> set[str]:
        return {row for row in self.rows if folder_of(row) == folder}

    def may_use(self, row: str, other: str | None) -> bool:
        return other == row or other in self.allowed[row]

    def problems(self, src: pathlib.Path) -> list[str]:
        """The table names every folder once, every room of a folder with rooms, and only rows above a row."""
        found = [f"src/README.md: {row} has two rows" for row in self.twice]
        for index, (row, names) in enumerate(self.cells.items()):
            above = set(self.rows[:index])
            found += [f"src/README.md: {row} names {name}, which is no row above it"
                      for name in sorted(names) if not self.named(name, row) or self.named(name, row) - above]
            if not (src / row).is_dir():
                found.append(f"src/README.md: no folder src/{row}")
        return found + self.missing(src, src)

    def missing(self, folder: pathlib.Path, src: pathlib.Path) -> list[str]:
        found = []
        for path in sorted(folder.iterdir()):
            name = path.relative_to(src).as_posix()
            if path.is_dir() and any(row.startswith(name + "/") for row in self.rows):
                found += self.missing(path, src)
            elif name not in self.rows if path.is_dir() else path.suffix in (".h", ".cc") and not self.row_of(name):
                found.append(f"src/{name}: not in the table of src/README.md")
        return found
