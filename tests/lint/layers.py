#!/usr/bin/env python3
"""Checks src/ against the table in src/README.md: include directions and CMake dependencies.

Also that every header has `#pragma once` and opens with a comment that says what it is for, and that what only tests
need is included by tests only.
Usage: layers.py REPOSITORY. Prints one line for each violation; exit status 1 if there is any.
"""

import pathlib
import re
import sys

sys.dont_write_bytecode = True
from law import Law, folder_of, is_test  # noqa: E402

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
DEPENDS = re.compile(r"shunt_layer\(\s*(\w+)([^)]*)\)")
TEST_EXTRAS = {"sys", "base"}
TEST_ROOM = "testing"


def may_include(law: Law, path: str, target: str) -> bool:
    row, target_row = law.row_of(path), law.row_of(target)
    if is_test(path) and target_row is not None and folder_of(target_row) == folder_of(path):
        return True
    return law.may_use(row, target_row) or (path.endswith("_test.cc") and target_row in TEST_EXTRAS)


def check_includes(law: Law, file: pathlib.Path, src: pathlib.Path) -> list[str]:
    path = file.relative_to(src).as_posix()
    problems = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        where = f"src/{path}:{number}"
        target = match.group(1)
        if "/" not in target or ".." in target.split("/"):
            problems.append(f'{where}: write the path from src/ in #include "{target}"')
        elif not may_include(law, path, target):
            problems.append(f"{where}: {law.row_of(path)} may not include "
                            f"{law.row_of(target) or folder_of(target)} ({target})")
        elif is_test(target) and not is_test(path):
            problems.append(f"{where}: only tests may include {target}")
    return problems


def check_header(path: pathlib.Path, src: pathlib.Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    problems = []
    if not text.startswith("//"):
        problems.append(f"{path.relative_to(src.parent)}:1: a header opens with a comment on its purpose")
    if not re.search(r"^#pragma once$", text, re.MULTILINE):
        problems.append(f"{path.relative_to(src.parent)}:1: no #pragma once")
    return problems


def check_cmake(law: Law, path: pathlib.Path, src: pathlib.Path) -> list[str]:
    """A folder is one target: it may depend on the folders that its rows name."""
    folder = folder_of(path.relative_to(src).as_posix())
    allowed = {folder_of(other) for row in law.rows_in(folder) for other in law.allowed[row]} - {folder}
    problems = []
    for name, rest in DEPENDS.findall(path.read_text(encoding="utf-8")):
        depends = set(rest.partition("DEPENDS")[2].split())
        problems += [f"{path.relative_to(src.parent)}: shunt_{name} may not depend on {extra}"
                     for extra in sorted(depends - allowed)]
    return problems


def check(root: pathlib.Path) -> list[str]:
    src = root / "src"
    law = Law(src / "README.md")
    if not law.rows:
        return ["src/README.md: no table of folders"]
    problems = law.problems(src)
    for file in sorted(src.rglob("*")):
        path = file.relative_to(src).as_posix()
        if file.name == "CMakeLists.txt" and file.parent != src:
            problems += check_cmake(law, file, src)
        if law.row_of(path) is None:
            continue  # law.problems() has said so
        if file.suffix in (".h", ".cc"):
            problems += check_includes(law, file, src)
            if file.parent.name == TEST_ROOM and not is_test(path):
                problems.append(f"src/{path}: {TEST_ROOM} holds tests, and this is none by its name")
        if file.suffix == ".h":
            problems += check_header(file, src)
    return problems


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: layers.py REPOSITORY", file=sys.stderr)
        return 2
    problems = check(pathlib.Path(sys.argv[1]).resolve())
    print("\n".join(problems) if problems else "layers: every include points the way src/README.md says")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
