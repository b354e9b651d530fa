"""What may carry the bytes, and the proof that it did."""
import dataclasses
import json
import os
import subprocess

from .errors import Failed


@dataclasses.dataclass(frozen=True)
class Carrier:
    name: str    # in JSON
    title: str   # in tables
    family: str  # the server's --listen
    shunted: bool = False

    def command(self, build, argv):
        """`argv` as this carrier runs it. --require: what would fall back to kernel TCP fails instead."""
        shunt = os.path.join(build, "bin", "shunt")
        return [shunt, "run", "--require", "--", *argv] if self.shunted else list(argv)


CARRIERS = (
    Carrier("tcp", "TCP", "tcp"),
    Carrier("unix", "AF_UNIX", "unix"),
    Carrier("shunt", "Shunt", "tcp", shunted=True),
)


def check_carried(build, programs):
    """Failed unless every connection of these live programs went through shared memory."""
    out = subprocess.run([os.path.join(build, "bin", "shunt"), "status", "--json"], capture_output=True, check=False,
                         timeout=30)
    if out.returncode != 0:
        raise Failed(f"shunt status failed: {out.stderr.decode(errors='replace').strip()}")
    totals = {p["pid"]: p["totals"] for p in json.loads(out.stdout)["processes"]}
    for program in programs:
        if program.pid not in totals:
            raise Failed(f"shunt status does not know {program.name}")
        counts = totals[program.pid]
        if counts["kernel"]["connections"] or not counts["shared_memory"]["connections"]:
            raise Failed(f"{program.name}: {counts['kernel']['connections']} connections over kernel TCP, "
                         f"{counts['shared_memory']['connections']} through shared memory")
