#!/usr/bin/env python3
"""A further connection between two processes costs the provider at most ten system calls at each end.

Counted by strace over connect, accept and both closes, less what the same program calls over kernel TCP; the least of
seven rounds, because a busy machine only adds sleeps and rings.
Exit status 77: strace is missing.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile

MOST = 10
BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "bench.py")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    options = parser.parse_args()
    if not shutil.which("strace"):
        print("strace is missing (Debian: apt-get install strace)")
        return 77
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "calls.json")
        subprocess.run([sys.executable, BENCH, "connect", "--only", "calls", "--rounds", "7", "--build", options.build,
                        "--json", path], check=True)
        with open(path, encoding="utf-8") as f:
            rows = {row["name"]: row for row in json.load(f)["rows"]}
    failed = 0
    for end in ("calls.server", "calls.client"):
        values = rows[end]["carriers"]
        tcp, shunt = (min(values[carrier]["values"]) for carrier in ("tcp", "shunt"))
        print(f"{end}: TCP {tcp:.1f}, Shunt {shunt:.1f}, the provider's {shunt - tcp:.1f}, at most {MOST}")
        failed += shunt - tcp > MOST
    return 1 if failed else 0


sys.exit(main())
