#!/usr/bin/env python3
"""What connections cost over kernel TCP, AF_UNIX and Shunt, in turns on this machine; `./run bench` calls it.

  bench.py connect                    connections that are short: rates, closing, system calls
  bench.py memory                     connections that stay: memory, descriptors, mappings
  bench.py connect memory --quick     whether it works, in seconds: the figures say nothing
  bench.py connect --only rate --rounds 15 --json rates.json

Exit status: 0; 1 if something failed that should have worked; 2 for bad arguments; 130 after Ctrl-C.
"""
import argparse
import fnmatch
import json
import os
import signal
import sys

sys.dont_write_bytecode = True
# pylint: disable=wrong-import-position
from harness import machine, table  # noqa: E402
from harness.carriers import CARRIERS  # noqa: E402
from harness.programs import ENDING  # noqa: E402
from harness.rounds import run_rounds  # noqa: E402
from harness.stage import FULL, QUICK, Stage  # noqa: E402
from sets import SETS  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
ROUNDS = 7


def parse(argv):
    p = argparse.ArgumentParser(prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("sets", nargs="*", metavar="SET", help=f"rows to measure: {', '.join(SETS)}")
    p.add_argument("--only", action="append", default=[], metavar="NAME",
                   help="only this row, or those whose names begin so (rate) or match (*.client); may be repeated")
    p.add_argument("--rounds", default=None, metavar="N", help=f"how often each is measured (default: {ROUNDS})")
    p.add_argument("--quick", action="store_true", help="one round of little: shows that it works")
    p.add_argument("--json", metavar="FILE", help="write all single values to FILE, too")
    p.add_argument("--build", default=os.path.join(HERE, "..", "build", "release"), metavar="DIR",
                   help="build directory (default: build/release)")
    p.add_argument("--check-arguments", action="store_true", help="measure nothing; only say whether these are right")
    options = p.parse_args(argv)
    if not options.sets:
        p.error(f"which rows? Name one or more of: {', '.join(SETS)}")
    if unknown := [name for name in options.sets if name not in SETS]:
        p.error(f"no set '{unknown[0]}'; there are: {', '.join(SETS)}")
    if options.rounds is None:
        options.rounds = 1 if options.quick else ROUNDS
    elif not options.rounds.isdigit() or not 1 <= int(options.rounds) <= 1000:
        p.error(f"--rounds: a number from 1 to 1000, not '{options.rounds}'")
    options.rounds = int(options.rounds)
    options.experiments = [e for name in SETS if name in options.sets for e in SETS[name]]
    every = [row.name for e in options.experiments for row in e.rows]
    for pattern in options.only:
        if not any(chosen(name, [pattern]) for name in every):
            p.error(f"--only: no row '{pattern}' in {' '.join(options.sets)}; there are: {', '.join(every)}")
    if options.json and (problem := cannot_write(options.json)):
        p.error(f"--json: {problem}")
    return options


def chosen(name, patterns):
    return not patterns or any(name == p or name.startswith(p + ".") or fnmatch.fnmatchcase(name, p) for p in patterns)


def cannot_write(path):
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path):
        return f"'{path}' is a directory; name a file"
    if not os.path.isdir(folder):
        return f"there is no directory '{folder}'; make it first"
    if not os.access(path if os.path.exists(path) else folder, os.W_OK):
        return f"'{path}' cannot be written; name another file"
    return None


def check_built(build):
    for part in ("bin/shunt", "lib/libshunt.so", "bin/bench/bench_server", "bin/bench/bench_client"):
        if not os.path.exists(os.path.join(build, part)):
            sys.exit(f"bench: {os.path.normpath(os.path.join(build, part))} is missing; `./run bench` builds it, "
                     "or --build names another directory")


def on_signal(number, _frame):
    for other in ENDING:
        signal.signal(other, signal.SIG_IGN)  # the end is not to be interrupted
    print("\nbench: interrupted; its programs and files are being removed", file=sys.stderr, flush=True)
    sys.exit(128 + number)


def show_progress(text, passing):
    """On a terminal the passing texts overwrite each other; a file gets none of them."""
    if sys.stderr.isatty():
        print(f"\r{text}\33[K", end="" if passing else "\n", file=sys.stderr, flush=True)
    elif not passing:
        print(text, file=sys.stderr, flush=True)


def measure(options):
    experiments = [e for e in options.experiments if any(chosen(row.name, options.only) for row in e.rows)]
    rows = [row for e in experiments for row in e.rows if chosen(row.name, options.only)]
    known = machine.facts(HERE)
    print(machine.line(known), flush=True)
    with Stage(options.build, QUICK if options.quick else FULL) as stage:
        results = run_rounds(stage, experiments, CARRIERS, options.rounds, show_progress)
    if options.quick:
        print("--quick: these figures show that the bench works, and nothing else")
    print()
    for line in table.lines(rows, CARRIERS, results, stage.notes):
        print(line)
    if options.json:
        known.update(sets=options.sets, rounds=options.rounds, quick=options.quick,
                     rows=table.as_json(rows, CARRIERS, results, stage.notes))
        with open(options.json, "w", encoding="utf-8") as f:
            json.dump(known, f, indent=1)
            f.write("\n")
    return 1 if results.failed else 0


def main(argv):
    options = parse(argv)
    if options.check_arguments:
        return 0
    check_built(options.build)
    for number in ENDING:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # under nohup it goes on
            signal.signal(number, on_signal)
    return measure(options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
