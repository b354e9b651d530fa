#!/usr/bin/env python3
"""Checks src/ against the table in src/README.md: include directions and CMake dependencies.

Also that every header has `#pragma once` and opens with a comment that says what it is for.
Usage: layers.py REPOSITORY. Prints one line for each violation; exit status 1 if there is any.
"""

import pathlib
import re
import sys

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
DEPENDS = re.compile(r"shunt_layer\(\s*(\w+)([^)]*)\)")
TEST_EXTRAS = {"sys", "base"}


def read_law(readme: pathlib.Path) -> dict[str, set[str]]:
    """The table's rows, in order: folder -> folders it may include."""
    law: dict[str, set[str]] = {}
    in_table = False
    for line in readme.read_text().splitlines():
        if not line.startswith("|"):
            in_table = False
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if cells[0] == "folder":
            in_table = True
        elif in_table and not cells[0].startswith("-"):
            law[cells[0]] = set(cells[-1].split())
    return law


def check_law(law: dict[str, set[str]], src: pathlib.Path) -> list[str]:
    """The table names every folder once, and only points to rows before (no cycles)."""
    problems = []
    known: set[str] = set()
    for folder, allowed in law.items():
        problems += [f"src/README.md: {folder} names {name}, which is no row above it"
                     for name in sorted(allowed - known)]
        known.add(folder)
    folders = {path.name for path in src.iterdir() if path.is_dir()}
    problems += [f"src/{name}: not in the table of src/README.md" for name in sorted(folders - known)]
    problems += [f"src/README.md: no folder src/{name}" for name in sorted(known - folders)]
    return problems


def check_includes(path: pathlib.Path, folder: str, allowed: set[str], src: pathlib.Path) -> list[str]:
    problems = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        where = f"{path.relative_to(src.parent)}:{number}"
        target = match.group(1)
        layer = target.split("/")[0]
        if "/" not in target or ".." in target.split("/"):
            problems.append(f'{where}: write the path from src/ in #include "{target}"')
        elif layer not in allowed | {folder}:
            problems.append(f"{where}: {folder} may not include {layer} ({target})")
    return problems


def check_header(path: pathlib.Path, src: pathlib.Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    problems = []
    if not text.startswith("//"):
        problems.append(f"{path.relative_to(src.parent)}:1: a header opens with a comment on its purpose")
    if not re.search(r"^#pragma once$", text, re.MULTILINE):
        problems.append(f"{path.relative_to(src.parent)}:1: no #pragma once")
    return problems


def check_cmake(folder: str, allowed: set[str], src: pathlib.Path) -> list[str]:
    path = src / folder / "CMakeLists.txt"
    if not path.exists():
        return []
    problems = []
    for name, rest in DEPENDS.findall(path.read_text()):
        depends = set(rest.partition("DEPENDS")[2].split())
        problems += [f"src/{folder}/CMakeLists.txt: shunt_{name} may not depend on {extra}"
                     for extra in sorted(depends - allowed)]
    return problems


def check(root: pathlib.Path) -> list[str]:
    src = root / "src"
    law = read_law(src / "README.md")
    if not law:
        return ["src/README.md: no table of folders"]
    problems = check_law(law, src)
    for folder, allowed in law.items():
        for path in sorted((src / folder).rglob("*")):
            if path.suffix not in (".h", ".cc"):
                continue
            extras = TEST_EXTRAS if path.name.endswith("_test.cc") else set()
            problems += check_includes(path, folder, allowed | extras, src)
            if path.suffix == ".h":
                problems += check_header(path, src)
        problems += check_cmake(folder, allowed, src)
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
