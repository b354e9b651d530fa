#!/usr/bin/env python3
"""The check of the documents' paths finds what it is there for, and leaves alone what is no path of the repository."""

import pathlib
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
import doc_paths  # noqa: E402

FILES = {
    "src/README.md": "# Folders\n",
    "src/ring/writer.cc": "",
    "src/ring/writer.h": "",
    "src/sockets/wait/epoll_wait.cc": "",
    "src/sys/kernel.h": "",
    "scripts/demo.sh": "",
    "tests/vm/README.md": "# Machines\n",
    "tests/vm/vm/guests.py": "",
    "docs/VM.md": "# A `virtual` machine: what?\n\n## Twice\n\n## Twice\n\n```\n# no heading\n```\n<a id=\"odd\"></a>\n",
    "build/release/bin/other": "",
}


class DocPathsTest(unittest.TestCase):
    def problems(self, text: str, document: str = "README.md") -> list[str]:
        doc_paths.anchors.cache_clear()
        with tempfile.TemporaryDirectory() as name:
            root = pathlib.Path(name).resolve()
            for path, content in {**FILES, document: text}.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(content)
            return doc_paths.check(root)

    def finds(self, text: str, problem: str, document: str = "README.md"):
        self.assertEqual(self.problems(text, document), [f"{document}:1: {problem}"])

    def clean(self, text: str, document: str = "README.md"):
        self.assertEqual(self.problems(text, document), [])

    def test_full_paths(self):
        self.clean("`src/ring/writer.h`, scripts/demo.sh. In src/ and (tests/vm): ./scripts/demo.sh")
        self.finds("`src/ring/gone.h`", "no src/ring/gone.h")
        self.finds("See scripts/gone.sh.", "no scripts/gone.sh")
        self.finds("`tests/gone/`", "no tests/gone/")

    def test_paths_from_src(self):
        self.clean("`ring/writer.cc`, `sockets/wait/epoll_wait.cc`", "docs/adr/0001-one.md")
        self.finds("`ring/reader.cc`", "no ring/reader.cc", "docs/adr/0001-one.md")

    def test_paths_beside_the_document(self):
        self.clean("`vm/guests.py`", "tests/vm/README.md")
        self.finds("`vm/gone.py`", "no vm/gone.py", "tests/vm/README.md")
        self.clean("`vm/gone.py`")

    def test_patterns(self):
        self.clean("`ring/writer.{h,cc}` `sockets/wait/epoll_*.cc` `src/ring/*.h`")
        self.finds("`ring/writer.{h,cc,py}`", "no ring/writer.py")
        self.finds("`sockets/wait/poll_*.cc`", "no sockets/wait/poll_*.cc")

    def test_paths_of_others(self):
        self.clean("/dev/shm/w DIR/table build/release/bin/shunt $DIR/src/gone ~/src/gone ../src/gone connect/listen")
        self.clean("https://example.org/src/gone.h #include <sys/socket.h> 12 requests/s build/gone/src/ring/gone.h")

    def test_in_fences_too(self):
        self.assertEqual(self.problems("```\npython3 tests/gone.py\n```\n"), ["README.md:2: no tests/gone.py"])

    def test_links(self):
        self.clean("[a](docs/VM.md) [b](tests/vm) [c](https://example.org/gone.md) [d](mailto:a@b) ![e](scripts/demo.sh)")
        self.clean("[up](../src/README.md)", "docs/OTHER.md")
        self.finds("[a](docs/GONE.md)", "a link to docs/GONE.md, which does not exist")
        self.finds("[up](src/README.md)", "a link to src/README.md, which does not exist", "docs/OTHER.md")
        self.finds("[a]: docs/GONE.md", "a link to docs/GONE.md, which does not exist")
        self.finds("[`src/gone.h`](docs/VM.md)", "no src/gone.h")

    def test_anchors(self):
        self.clean("[a](docs/VM.md#a-virtual-machine-what) [b](docs/VM.md#twice-1) [c](docs/VM.md#odd)")
        self.finds("[a](docs/VM.md#gone)", "a link to docs/VM.md#gone, but no such heading")
        self.finds("[a](docs/VM.md#no-heading)", "a link to docs/VM.md#no-heading, but no such heading")
        self.finds("[a](#here)", "a link to #here, but no such heading")
        self.clean("[a](#here)\n# Here\n")

    def test_which_documents(self):
        for document in ("src/README.md", "docs/adr/0001-one.md", "tests/vm/README.md"):
            self.finds("`src/ring/gone.h`", "no src/ring/gone.h", document)
        self.clean("`src/ring/gone.h`", "CHANGELOG.md")


if __name__ == "__main__":
    unittest.main()
