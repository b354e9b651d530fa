#!/usr/bin/env python3
"""Compares the static tracepoints (src/base/trace.h) of the programs with the table in docs/HACKING.md, both ways.

Usage: tracepoints.py DOCUMENT BINARY...
The table is that of the section "Tracepoints": a row is | `name` | arguments, with commas between | file | ... Every
site of a point must have the arguments that its row names, as far as their number tells.
"""

import collections
import pathlib
import re
import subprocess
import sys

NOTE = re.compile(r"Provider: shunt\s+Name: (\S+)\s+Location: [^\n]*\n(?:\s+Arguments:([^\n]*))?")

Points = dict[str, tuple[str, ...]]


def section(document: pathlib.Path) -> list[str]:
    lines = document.read_text(encoding="utf-8").splitlines()
    begin = lines.index("## Tracepoints") + 1
    end = next((i for i in range(begin, len(lines)) if lines[i].startswith("## ")), len(lines))
    return lines[begin:end]


def listed_points(document: pathlib.Path) -> dict[str, Points]:
    """File -> point -> arguments."""
    files: dict[str, Points] = collections.defaultdict(dict)
    for line in section(document):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| `") and len(cells) >= 3:
            name, arguments, file = (cell.replace("`", "") for cell in cells[:3])
            files[file][name] = tuple(argument.strip() for argument in arguments.split(","))
    return files


def built_points(binary: str) -> dict[str, set[int]]:
    """Point -> how many arguments its sites have."""
    notes = subprocess.run(["readelf", "-nW", binary], check=True, capture_output=True, text=True).stdout
    found: dict[str, set[int]] = collections.defaultdict(set)
    for name, arguments in NOTE.findall(notes):
        found[name].add(len(arguments.split()))
    return found


def compare(file: str, listed: Points, built: dict[str, set[int]]) -> list[str]:
    if not built:
        return [f"{file} has no tracepoints; it was built without <sys/sdt.h>"]
    problems = [f"{file} has `{name}`, which the table does not list" for name in sorted(built.keys() - listed)]
    problems += [f"{file} has no `{name}`, which the table lists" for name in sorted(listed.keys() - built)]
    problems += [f"{file}: `{name}` has {sorted(built[name])} arguments, the table names {', '.join(listed[name])}"
                 for name in sorted(listed.keys() & built) if built[name] != {len(listed[name])}]
    return problems


def main() -> int:
    document, *binaries = sys.argv[1:]
    listed = listed_points(pathlib.Path(document))
    built = {pathlib.Path(binary).name: built_points(binary) for binary in binaries}
    problems = [f"the table names {file}, which is not looked at" for file in sorted(listed.keys() - built)]
    for file, points in built.items():
        problems += compare(file, listed.get(file, {}), points)
    count = sum(len(points) for points in built.values())
    print("\n".join(problems) if problems else f"{count} tracepoints in {', '.join(built)}, as listed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
