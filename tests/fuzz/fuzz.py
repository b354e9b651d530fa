#!/usr/bin/env python3
"""Runs the fuzzing harnesses: `./run fuzz` and ctest call this.

  fuzz.py list                      the harnesses, a line each
  fuzz.py run NAME [--seconds N]    fuzz from seeds, kept corpus and what earlier runs found
  fuzz.py replay NAME FILE          one input
  fuzz.py grow NAME                 make the kept corpus anew from all of these, minimised

Nothing but `grow` writes outside of the build directory: what a run finds goes to BUILD/corpus/NAME, inputs that
end the harness to BUILD/found. Exit status 1: the harness was ended by an input, or its marks say that it did not
come to what it is about.
"""

import argparse
import hashlib
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
KEPT_FILES_MAX = 40
KEPT_BYTES_MAX = 64 * 1024
# Inputs take milliseconds: one of 5 s is an endless loop.
LIMITS = ["-max_len=4096", "-timeout=5", "-rss_limit_mb=2048"]


def harnesses() -> dict[str, str]:
    """Name -> what it is about: the first line of its file."""
    found = {}
    for path in sorted(HERE.glob("*_fuzz.cc")):
        name = path.name.removesuffix("_fuzz.cc")
        with open(path, encoding="utf-8") as file:
            found[name] = file.readline().removeprefix(f"// {name}: ").strip()
    return found


def list_harnesses() -> None:
    for name, about in harnesses().items():
        print(f"  {name:16} {about}")


class Harness:
    def __init__(self, build: pathlib.Path, name: str) -> None:
        self.name = name
        self.program = build / "bin" / f"{name}_fuzz"
        self.kept = HERE / "corpus" / name
        self.grown = build / "corpus" / name
        self.seeds = build / "seeds" / name
        self.found = build / "found"
        for folder in (self.grown, self.seeds, self.found):
            folder.mkdir(parents=True, exist_ok=True)

    def corpora(self) -> list[str]:
        """Where inputs come from, the one that a run writes to first."""
        subprocess.run([self.program, "--seeds", self.seeds], check=True)
        return [str(path) for path in (self.grown, self.seeds, self.kept) if path.is_dir()]

    def call(self, *arguments: str) -> tuple[int, str]:
        """Runs the harness, its output on the terminal and returned."""
        command = [str(self.program), f"-artifact_prefix={self.found}/{self.name}-", *LIMITS, *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace") as process:
            lines = []
            for line in process.stdout:
                lines.append(line)
                print(line, end="", flush=True)
        return process.returncode, "".join(lines)


def replay_command(name: str, path: str) -> str:
    path = pathlib.Path(path)
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    return f"./run fuzz {name} {shown}"


def run(harness: Harness, seconds: int) -> int:
    status, output = harness.call(f"-max_total_time={seconds}", "-print_final_stats=1", *harness.corpora())
    seed = re.search(r"INFO: Seed: (\d+)", output)
    runs = re.findall(r"^#(\d+)\t", output, re.MULTILINE)
    coverage = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", output)
    marks = dict(re.findall(r"^mark::(.*): (\d+)$", output, re.MULTILINE))
    print(f"\nfuzz {harness.name}: {runs[-1] if runs else 0} executions, "
          + ("coverage {} edges, {} features, {} inputs, ".format(*coverage[-1]) if coverage else "")
          + f"seed {seed.group(1) if seed else '?'}")
    for mark, count in sorted(marks.items()):
        print(f"  reached {count:>10} times: {mark}")
    artifact = re.search(r"Test unit written to (.*)", output)
    if artifact:
        print(f"AN INPUT ENDS IT. Kept in {artifact.group(1)}\n"
              f"Replay it with: {replay_command(harness.name, artifact.group(1))}")
    elif status != 0:
        print(f"the harness ended with status {status}")
    missed = [mark for mark, count in marks.items() if count == "0"]
    if status == 0 and (missed or not marks):
        print(f"NEVER REACHED: {', '.join(missed) or 'no marks'}. Seeds or corpus no longer fit the format")
        return 1
    return 0 if status == 0 else 1


def replay(harness: Harness, path: str) -> int:
    status, _ = harness.call(path)
    print(f"\nfuzz {harness.name}: {path} " + ("ends it" if status != 0 else "does no harm"))
    return 0 if status == 0 else 1


def grow(harness: Harness) -> int:
    """One input, the smallest, for each edge that any reaches. If those are too many, a run finds small ones soon."""
    sources = harness.corpora()
    with tempfile.TemporaryDirectory(dir=harness.found) as scratch:
        status, _ = harness.call("-merge=1", "-use_counters=0", scratch, *sources)
        if status != 0:
            return 1
        inputs = sorted((path.read_bytes() for path in pathlib.Path(scratch).iterdir()), key=len, reverse=True)
    shutil.rmtree(harness.kept, ignore_errors=True)
    harness.kept.mkdir(parents=True)
    kept = size = 0
    for data in inputs:
        if kept < KEPT_FILES_MAX and size + len(data) <= KEPT_BYTES_MAX:
            kept, size = kept + 1, size + len(data)
            (harness.kept / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    print(f"fuzz {harness.name}: {kept} of {len(inputs)} inputs kept, {size} bytes")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "fuzz")
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("list")
    for action in ("run", "replay", "grow"):
        actions.add_parser(action).add_argument("name")
    actions.choices["run"].add_argument("--seconds", type=int, default=60)
    actions.choices["replay"].add_argument("file")
    arguments = parser.parse_args()
    if arguments.action == "list":
        list_harnesses()
        return 0
    if arguments.name not in harnesses():
        print(f"no harness '{arguments.name}'. There are:", file=sys.stderr)
        list_harnesses()
        return 2
    harness = Harness(arguments.build.resolve(), arguments.name)
    if arguments.action == "run":
        return run(harness, arguments.seconds)
    return grow(harness) if arguments.action == "grow" else replay(harness, arguments.file)


if __name__ == "__main__":
    sys.exit(main())
