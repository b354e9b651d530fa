"""A guest writes at random over its own section of a window on a device (--over section), or over the whole window
(--over window), while programs of three partitions exchange bytes.

Nobody crashes or hangs: every exchange ends within its time, with success or an error, and all drivers live to the end.
Where the damage is only the scribbler's own section, the others go on without a reset and with the right bytes. Later
everything works again without any help, and in a window that is made anew.
"""
import json
import os
import random
import sys

from harness import case, frame, leaks, settings, status
from harness.stage import ADDRESS
from harness.window_map import WindowMap

PATIENCE_S = 20  # for one connection that says nothing: more than drivers need to notice, and to give up
p = case.parser(__doc__)
p.add_argument("--over", choices=["section", "window"], default="section")
p.add_argument("--seconds", type=float, default=8, help="of scribbling")
p.add_argument("--shuntd", help="the driver of another build, with a sanitizer perhaps")
p.set_defaults(mode="device", mib=384)
OPTIONS = p.parse_args()
SEED = OPTIONS.seed or random.SystemRandom().randrange(1 << 32)
PAIRS = [(x, y) for x in "abc" for y in "abc" if x != y]


class Servers:
    """One in each partition, for as long as the test lasts."""

    def __init__(self, stage):
        self._stage = stage
        self.all = {name: stage.start(name, [settings.program("exchanger"), "serve", "--host", ADDRESS[name],
                                             "--patience-ms", str(PATIENCE_S * 1000), "--limit", str(OPTIONS.limit)],
                                      name=f"server-{name}", stdin="hold") for name in "abc"}
        self._ports = {name: server.line().split()[1] for name, server in self.all.items()}

    def exchange(self, pairs, seconds):
        """Programs that exchange for so long, one for each pair; returns their reports."""
        programs = {(x, y): self._stage.start(
            x, [settings.program("exchanger"), "connect", "--host", ADDRESS[y], "--port", self._ports[y],
                "--seconds", str(seconds), "--seed", str(SEED + number), "--patience-ms", str(PATIENCE_S * 1000),
                "--limit", str(OPTIONS.limit)], name=f"client-{x}{y}") for number, (x, y) in enumerate(pairs)}
        reports = {}
        for pair, program in programs.items():
            # Each piece of an exchange has its patience; one that begins at the end takes a few of those at most.
            reports[pair] = json.loads(program.line(seconds + 4 * PATIENCE_S))
            program.succeed()
            check_quiet(program)
        return reports

    def end(self):
        for server in self.all.values():
            server.release()
        for name, server in self.all.items():
            case.say(f"    at the server in {name}: {server.line(4 * PATIENCE_S)}")
            server.succeed()
            check_quiet(server)


def check_quiet(process):
    """Nothing of Shunt's shows in a program's output."""
    assert process.errors() == "", f"{process.name} printed: {process.errors()}"


def check_drivers(stage):
    for name, driver in stage.drivers.items():
        assert driver.running(), f"driver {name} ended: {driver.errors()}"
        for line in driver.errors().splitlines():
            assert "Sanitizer" not in line and "runtime error" not in line, driver.errors()


def show(reports):
    for (x, y), report in reports.items():
        case.say(f"    {x} to {y}: {json.dumps(report)}")


def check_fine(reports):
    for pair, report in reports.items():
        fine = report["ok"] > 0 and report["wrong"] == report["silent"] == 0 and not report["errors"]
        assert fine, f"{pair}: {report}"


def start_scribbler(stage):
    window = WindowMap(stage.window)
    if OPTIONS.over == "section":
        parts, hot = [window.section(3)], window.hot(3)
    else:
        parts, hot = [window.all()], [window.head()] + sum((window.hot(n) for n in (1, 2, 3)), [])
    words = [w for name, places in (("--part", parts), ("--hot", hot)) for offset, size in places
             for w in (name, f"{offset}:{size}")]
    scribbler = stage.start("c", [settings.program("scribble"), stage.window, "--seed", str(SEED),
                                  "--limit", str(OPTIONS.limit), *words], provider=False, stdin="hold")
    scribbler.line_with("scribbling")
    return scribbler


def exchange(stage):
    case.say(f"  seed {SEED}")
    servers = Servers(stage)
    check_fine(servers.exchange(PAIRS, 1))
    for server in servers.all.values():
        status.check_carried(stage, server, sent=1, received=1)
    scribbler = start_scribbler(stage)
    reports = servers.exchange(PAIRS, OPTIONS.seconds)
    scribbler.release()
    case.say(f"    {scribbler.line()} over the {OPTIONS.over}")
    scribbler.succeed()
    show(reports)
    check_drivers(stage)
    if OPTIONS.over == "section":
        check_fine({pair: report for pair, report in reports.items() if "c" not in pair})
    # Without any help: the drivers have mended what they need.
    reports = servers.exchange(PAIRS, 3)
    show(reports)
    assert all(report["last"] for report in reports.values()), reports
    stage.make_anew()
    check_fine(servers.exchange(PAIRS, 1))
    servers.end()
    check_drivers(stage)
    stage.check_areas_free()
    leaks.check_no_abstract_names(stage)


if OPTIONS.mode != "device":
    p.error("between partitions of one kernel nobody can write into the window of others")
if OPTIONS.shuntd and not os.path.exists(os.path.join(OPTIONS.build, "bin", "tests", "exchanger")):
    print(f"SKIPPED scribble.py: a driver alone is not enough, {OPTIONS.build} has no programs")
    sys.exit(frame.SKIPPED)
if OPTIONS.shuntd:
    settings.replaced["shuntd"] = OPTIONS.shuntd
case.main(exchange, OPTIONS, compare=False, partitions="abc")
