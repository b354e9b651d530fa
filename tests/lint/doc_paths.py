#!/usr/bin/env python3
"""Checks that the files and headings which the documents name exist.

Documents are README.md, src/README.md, bench/README.md and every .md below docs/ and tests/. In their text a word
with a slash is a path of this repository if its first part is a folder of the repository (`tests/lint/layers.py`), of
src/ (`ring/writer.cc`), or beside the document; everything else (/dev/shm/w, build/release/bin/shunt, DIR/table) is
somebody else's path. `*`, `?` and `{h,cc}` must match something, each alternative by itself. Of links, relative ones
are looked at: the file, and in Markdown the heading that the anchor names.

Usage: doc_paths.py REPOSITORY. Prints one line for each name of nothing; exit status 1 if there is any.
"""

import functools
import glob
import pathlib
import re
import sys

FENCE = re.compile(r"^\s*(```|~~~)")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$")
ANCHOR = re.compile(r'<a\s+(?:id|name)="([^"]+)"')
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\s*\[[^\]]+\]:\s*<?(\S+?)>?\s*$")
SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*:")
URL = re.compile(r"\b[a-z][a-z0-9+.-]*://\S+")
# A word with a slash that neither goes on an absolute path or a variable nor stands in an #include <...>.
WORD = re.compile(r"(?<![\w/.~$}<-])(?:\./)?([\w.-]+/(?:[\w./*?+-]|\{[\w.,*?-]+\})*)")
NOT_OURS = {"build", ".git"}


def documents(root: pathlib.Path) -> list[pathlib.Path]:
    named = [root / "README.md", root / "src" / "README.md", root / "bench" / "README.md"]
    found = sorted((root / "docs").rglob("*.md")) + sorted((root / "tests").rglob("*.md"))
    return [path for path in named if path.exists()] + found


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


@functools.cache
def anchors(path: pathlib.Path) -> set[str]:
    found: set[str] = set()
    fenced = False
    for line in path.read_text(encoding="utf-8").splitlines():
        if FENCE.match(line):
            fenced = not fenced
        if fenced:
            continue
        found.update(ANCHOR.findall(line))
        if match := HEADING.match(line):
            name, count = slug(match.group(1)), 0
            while (name if count == 0 else f"{name}-{count}") in found:
                count += 1
            found.add(name if count == 0 else f"{name}-{count}")
    return found


def alternatives(path: str) -> list[str]:
    """`a.{h,cc}` -> `a.h`, `a.cc`."""
    match = re.search(r"\{([^{}]*)\}", path)
    if not match:
        return [path]
    return [more for part in match.group(1).split(",")
            for more in alternatives(path[:match.start()] + part + path[match.end():])]


def bases_of(word: str, document: pathlib.Path, root: pathlib.Path) -> list[pathlib.Path]:
    """The folders in which the word's first part is a folder of this repository."""
    first = word.partition("/")[0]
    if first in NOT_OURS | {".", ".."}:
        return []
    return [base for base in dict.fromkeys([root, root / "src", document.parent]) if (base / first).is_dir()]


def check_words(line: str, document: pathlib.Path, root: pathlib.Path) -> list[str]:
    missing = []
    for word in WORD.findall(URL.sub(" ", line)):
        word = word.rstrip(".-")
        bases = bases_of(word, document, root)
        missing += [f"no {path}" for path in alternatives(word)
                    if bases and not any(glob.glob(str(base / path)) for base in bases)]
    return missing


def check_link(target: str, document: pathlib.Path) -> list[str]:
    if SCHEME.match(target) or target.startswith("/"):
        return []
    name, _, anchor = target.partition("#")
    path = (document.parent / name).resolve() if name else document
    if not path.exists():
        return [f"a link to {target}, which does not exist"]
    if anchor and path.suffix == ".md" and anchor not in anchors(path):
        return [f"a link to {target}, but no such heading"]
    return []


def check_document(document: pathlib.Path, root: pathlib.Path) -> list[str]:
    problems = []
    fenced = False
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
        fenced = fenced != bool(FENCE.match(line))
        found = []
        if not fenced:
            found += [problem for pair in LINK.findall(line) for problem in check_link(pair[0] or pair[1], document)]
            line = LINK.sub(lambda link: link[0].partition("](")[0] if link[1] else " ", line)
        found += check_words(line, document, root)
        problems += [f"{document.relative_to(root)}:{number}: {problem}" for problem in found]
    return problems


def check(root: pathlib.Path) -> list[str]:
    return [problem for document in documents(root) for problem in check_document(document, root)]


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: doc_paths.py REPOSITORY", file=sys.stderr)
        return 2
    root = pathlib.Path(sys.argv[1]).resolve()
    problems = check(root)
    print("\n".join(problems) if problems else f"doc_paths: what {len(documents(root))} documents name exists")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
