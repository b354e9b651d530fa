#!/usr/bin/env python3
"""Holds the objects of a build against the table in src/README.md: no call goes to a room or folder that the caller's
row does not name.

`#include` lines are not all: a declaration may be written by hand, or lie in a header below and its definition above.
What an object needs and what another one defines is in their symbol tables, read here with nm. An inline function or
a template has a definition in each object that uses it, so weak symbols belong to no room. Folders that no row uses
together are never linked together, and a name in common means nothing (shuntd's `poll` is libc's, not the one that
libshunt.so exports).

Usage: calls.py REPOSITORY BUILD [--circles]
--circles also prints the translation units that call each other in a circle, and whom of it each of them calls.
Exit status 1 if a call goes where it may not, a source of src/ has no object yet, or rooms call each other in a circle.
"""

import argparse
import collections
import dataclasses
import pathlib
import subprocess
import sys

sys.dont_write_bytecode = True
from law import Law, folder_of, is_test  # noqa: E402

STRONG = set("TDBRSGCAi")


@dataclasses.dataclass(frozen=True, order=True)
class Use:
    """An object needs a symbol that another one defines. Objects are named by their sources, from src/."""
    caller: str
    owner: str
    symbol: str


def find_objects(root: pathlib.Path, build: pathlib.Path) -> dict[pathlib.Path, str]:
    """Object file -> source. Tests may call whom they like; what an earlier build left has no source any more."""
    objects = {}
    for path in sorted((build / "src").glob("*/CMakeFiles/*.dir/**/*.o")):
        folder, _, _, *rest = path.relative_to(build / "src").with_suffix("").parts
        source = "/".join([folder, *rest])
        if not is_test(source) and (root / "src" / source).is_file():
            objects[path] = source
    return objects


def read_uses(objects: dict[pathlib.Path, str]) -> list[Use]:
    command = ["nm", "--format=posix", "--print-file-name", *map(str, objects)]
    owners: dict[str, str] = {}
    needs = []
    for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines():
        file, _, symbol = line.partition(": ")
        name, kind = symbol.split()[:2]
        source = objects[pathlib.Path(file)]
        if kind == "U":
            needs.append((source, name))
        elif kind in STRONG:
            owners[name] = source
    return [Use(source, owners[name], name) for source, name in needs if owners.get(name, source) != source]


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The sets of more than one node in which each reaches each, largest first (Tarjan's algorithm)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        number[node] = lowest[node] = len(number)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in number:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in stack:
                lowest[node] = min(lowest[node], number[other])
        if lowest[node] == number[node]:
            members = stack[stack.index(node):]
            del stack[stack.index(node):]
            if len(members) > 1:
                found.append(sorted(members))

    for node in sorted(graph):
        if node not in number:
            visit(node)
    return sorted(found, key=lambda members: (-len(members), members))


def graph_of(edges) -> dict[str, set[str]]:
    graph: dict[str, set[str]] = collections.defaultdict(set)
    for caller, owner in edges:
        graph[caller].add(owner)
    return dict(graph)


def may_use(law: Law, use: Use) -> bool:
    return law.may_use(law.row_of(use.caller), law.row_of(use.owner))


def goes_astray(law: Law, use: Use) -> bool:
    caller, owner = law.row_of(use.caller), law.row_of(use.owner)
    if law.may_use(caller, owner):
        return False
    return folder_of(caller) == folder_of(owner) or any(
        {caller, owner} <= law.allowed[row] | {row} for row in law.rows)


def demangled(names: list[str]) -> dict[str, str]:
    if not names:
        return {}
    result = subprocess.run(["c++filt"], input="\n".join(names), check=True, capture_output=True, text=True)
    return dict(zip(names, result.stdout.splitlines()))


def violations(law: Law, uses: list[Use]) -> list[str]:
    astray = sorted(use for use in uses if goes_astray(law, use))
    plain = demangled([use.symbol for use in astray])
    found = [f"src/{use.caller} uses {plain[use.symbol]} of src/{use.owner}: "
             f"{law.row_of(use.caller)} may not use {law.row_of(use.owner)}" for use in astray]
    rooms = graph_of((law.row_of(use.caller), law.row_of(use.owner)) for use in uses
                     if goes_astray(law, use) or may_use(law, use))
    return found + [f"rooms in a circle: {' '.join(members)}" for members in circles(rooms)]


def summary(law: Law, folder: str, sources: set[str], uses: list[Use], show_circles: bool) -> list[str]:
    own = [use for use in uses if folder_of(use.caller) == folder]
    inside = [use for use in own if folder_of(use.owner) == folder]
    between = sum(law.row_of(use.caller) != law.row_of(use.owner) for use in inside)
    below = sum(may_use(law, use) for use in own if folder_of(use.owner) != folder)
    astray = sum(goes_astray(law, use) for use in own)
    graph = graph_of((use.caller, use.owner) for use in inside)
    found = circles(graph)
    largest = f"{len(found[0])} of them call each other in a circle" if found else "no two call each other in a circle"
    lines = [f"{folder}: {len(sources)} objects, {between} calls between rooms, {below} to folders below, "
             f"{astray or 'no'} {'call goes' if astray < 2 else 'calls go'} up; {largest}"]
    for members in found if show_circles else []:
        lines.append(f"  a circle of {len(members)}:")
        lines += [f"    {member} -> {' '.join(sorted(graph[member] & set(members)))}" for member in members]
    return lines


def check(root: pathlib.Path, build: pathlib.Path, show_circles: bool = False) -> tuple[list[str], list[str]]:
    """Problems, and a line for each folder."""
    law = Law(root / "src" / "README.md")
    problems = law.problems(root / "src")
    objects = find_objects(root, build)
    built = set(objects.values())
    sources = {path.relative_to(root / "src").as_posix() for path in (root / "src").rglob("*.cc")}
    problems += [f"src/{source}: not built in {build}" for source in sorted(sources - built) if not is_test(source)]
    if problems or not objects:
        return problems or [f"{build}: no objects"], []
    uses = read_uses(objects)
    lines = []
    for folder in dict.fromkeys(map(folder_of, law.rows)):
        members = {source for source in built if folder_of(source) == folder}
        lines += summary(law, folder, members, uses, show_circles) if members else []
    return violations(law, uses), lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("repository", type=pathlib.Path)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--circles", action="store_true", help="print the circles of translation units")
    options = parser.parse_args()
    problems, lines = check(options.repository.resolve(), options.build.resolve(), options.circles)
    print("\n".join(problems + lines))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
