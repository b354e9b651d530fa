"""socket_semantics_test: Linux's socket rules, natively and under Shunt.

A case that crashes or hangs is a failure of that case; the rest still runs. Under Shunt everything
runs with --require, but for the cases that talk to programs without the provider. In the window mode
both ends are in partition a.
"""
import re

from harness import case, leaks, settings
from harness.process import ProgramFailed

CASE_S = 40
ORDINARY_PEERS = "Interop.*"
# What Shunt does not do (README, "What does not work yet"; docs/adr/0009-downgrade.md): the peer wrote, then calls
# nothing on its socket while the other end is handed on to another program. Run natively only.
PEER_LOOKS_AWAY = tuple(f"InheritPast.{name}" for name in (
    "HasWrittenAndLooksAway", "HasEndedItsHalfAndLooksAway", "HasWrittenAndBeenStopped",
    "SeesTheHalfEndedByTheOldProgram", "SeesTheKilledNewProgramsEnd"))

p = case.parser(__doc__)
p.add_argument("--filter", default="*", help="as --gtest_filter")
OPTIONS = p.parse_args()


class Suite:
    def __init__(self, stage, require):
        self.stage = stage
        self.require = require
        self.done = []
        self.failed = []
        self.output = {}

    def run(self, wanted, unwanted):
        """Runs cases until none is left; after a crash, what has not run yet."""
        while True:
            skip = ":".join(filter(None, [unwanted, *self.done]))
            process = self.stage.start(
                "client", [settings.program("socket_semantics_test"),
                           f"--gtest_filter={wanted}-{skip}"],
                require=self.require, name="semantics", stderr_lines=True)
            current = self._follow(process)
            process.end()
            if current is None:
                return
            self.done.append(current)
            self.failed.append(current)

    def _follow(self, process):
        """Reads results; returns the case that the program died or hung in, None at the end."""
        current = None
        while True:
            try:
                line = process.line(CASE_S)
            except ProgramFailed as e:
                if current is None:
                    if process.wait(5) not in (0, 1):
                        raise
                    return None
                self.output[current].append(str(e).splitlines()[0])
                return current
            if m := re.match(r"\[ RUN      \] (\S+)", line):
                current = m.group(1)
                self.output[current] = []
            elif m := re.match(r"\[  (?:     OK|FAILED ) \] (\S+?),? ", line + " "):
                if current == m.group(1):
                    self.done.append(current)
                    if "OK" not in line:
                        self.failed.append(current)
                    current = None
            elif current:
                self.output[current].append(line)


def exchange(stage):
    main_part = Suite(stage, require=True)
    excluded = [ORDINARY_PEERS]
    if stage.mode != "native":
        excluded += [f"*{name}*" for name in PEER_LOOKS_AWAY]
        case.say(f"  {stage.mode}: not under Shunt, run natively only: {', '.join(PEER_LOOKS_AWAY)}")
    main_part.run(OPTIONS.filter, ":".join(excluded))
    mixed_part = Suite(stage, require=False)
    if OPTIONS.filter == "*" or OPTIONS.filter.startswith("Interop"):
        mixed_part.run(ORDINARY_PEERS if OPTIONS.filter == "*" else OPTIONS.filter, "")
    leaks.check_no_abstract_names(stage)
    failed = main_part.failed + mixed_part.failed
    for name in failed:
        output = (main_part.output.get(name) or mixed_part.output.get(name) or [])[:25]
        case.say(f"  {stage.mode}: FAILED {name}\n    " + "\n    ".join(output))
    done = sorted(main_part.done + mixed_part.done)
    case.say(f"  {stage.mode}: {len(done)} cases, {len(failed)} failed")
    assert done, "no case ran"
    assert not failed, failed
    return [name for name in done if not any(limit in name for limit in PEER_LOOKS_AWAY)]


case.main(exchange, OPTIONS)
