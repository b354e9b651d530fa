#!/usr/bin/env python3
"""Compares what libshunt.so exports and needs with what it may.

Usage: exported_symbols.py LIBSHUNT LIST. LIST names one defined dynamic symbol a line; # begins a
comment. The library may need libc.so.6 and the dynamic loader, nothing else: any other library
would be loaded into every program that runs under Shunt.
"""

import pathlib
import re
import subprocess
import sys

ALLOWED_LIBRARIES = re.compile(r"^(libc\.so\.6|ld-linux[-.\w]*\.so\.\d+)$")


def output(*command: str) -> list[str]:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def main() -> int:
    library, list_file = sys.argv[1:3]
    lines = pathlib.Path(list_file).read_text().splitlines()
    listed = {word for line in lines if (word := line.partition("#")[0].strip())}
    defined = {line.split()[-1].partition("@")[0] for line in output("nm", "-D", "--defined-only", library)}
    needed = [match.group(1) for line in output("readelf", "-d", library)
              if (match := re.search(r"\(NEEDED\).*\[(.*)\]", line))]
    problems = [f"exported, but not in {list_file}: {name}" for name in sorted(defined - listed)]
    problems += [f"in {list_file}, but not exported: {name}" for name in sorted(listed - defined)]
    problems += [f"needs {name}" for name in needed if not ALLOWED_LIBRARIES.match(name)]
    print("\n".join(problems) if problems else f"{len(defined)} symbols, needs {', '.join(needed)}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
