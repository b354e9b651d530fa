"""Connections that stay: what one of them takes at both ends."""
import time

from harness import memory
from harness.rows import LESS, Experiment, Row

USED_BYTES = 200 * 1024
HELD = ("memory.idle", "memory.used")
HANDLES = ("descriptors.server", "descriptors.client", "mappings.server", "mappings.client")
DRAINED = ("drained.server", "drained.both")
KIB, MIB = 1024, 1024 * 1024


def _in_cgroups(stage):
    return {end: {"cgroup": stage.meter.cgroup(end)} for end in ("server", "client")}


def _open(pair, count):
    pair.client.give(f"open {count}")
    pair.client.line("open", 120)


def prepare_hold(stage):
    stage.idle = stage.affordable(stage.scale.idle, *HELD, *HANDLES)
    stage.note(stage.meter.text, *HELD)


def hold(stage, carrier):
    """Memory before, with idle connections, and after some use of them."""
    count, settle = stage.idle, stage.scale.settle_s
    bulk = ["--bulk-in", USED_BYTES, "--bulk-out", USED_BYTES]
    with stage.holding(carrier, *bulk, server_argv=bulk, **_in_cgroups(stage)) as pair:
        _open(pair, 1)  # what only the first one costs
        time.sleep(settle)
        bytes_before, handles_before = stage.meter.both(pair), [memory.handles(p.pid) for p in pair.both]
        _open(pair, count)
        time.sleep(settle)
        values = {"memory.idle": (stage.meter.both(pair) - bytes_before) / count / KIB}
        for end, program, before in zip(("server", "client"), pair.both, handles_before):
            for kind, old, new in zip(("descriptors", "mappings"), before, memory.handles(program.pid)):
                values[f"{kind}.{end}"] = (new - old) / count
        pair.client.give("bulk")
        pair.client.line("bulk", 120)
        time.sleep(settle)
        values["memory.used"] = (stage.meter.both(pair) - bytes_before) / count / KIB
        return values


def prepare_drain(stage):
    stage.drained = stage.affordable(stage.scale.drained, *DRAINED)
    stage.note(f"{stage.scale.drained_bytes / MIB:g} MiB from the client on each, all of it read, then "
               f"{stage.scale.drained_idle_s:g} s of rest", *DRAINED)
    stage.note("drained.server is the server's Rss: pages that both ends map count in full", DRAINED[0])
    stage.note(stage.meter.text, DRAINED[1])


def drain(stage, carrier):
    """Memory that is left after a lot has gone through connections that now rest."""
    count = stage.drained
    bulk = ["--bulk-in", stage.scale.drained_bytes, "--bulk-out", 1]
    with stage.holding(carrier, *bulk, server_argv=bulk, **_in_cgroups(stage)) as pair:
        _open(pair, 1)
        pair.client.give("bulk")  # the programs' own buffers
        pair.client.line("bulk")
        time.sleep(stage.scale.settle_s)
        before = stage.meter.both(pair), memory.resident(pair.server.pid)
        _open(pair, count)
        pair.client.give("bulk")
        pair.client.line("bulk", 300)
        time.sleep(stage.scale.drained_idle_s)
        after = stage.meter.both(pair), memory.resident(pair.server.pid)
        both, server = ((new - old) / MIB for old, new in zip(before, after))
        return {"drained.server": server, "drained.both": both}


EXPERIMENTS = (
    Experiment((
        Row("memory.idle", "idle, both ends, with kernel", "KiB", LESS),
        Row("memory.used", "after 200 KiB each way", "KiB", LESS),
        Row("descriptors.server", "descriptors, server", "", LESS),
        Row("descriptors.client", "descriptors, client", "", LESS),
        Row("mappings.server", "mappings, server", "", LESS),
        Row("mappings.client", "mappings, client", "", LESS)), hold, prepare_hold),
    Experiment((
        Row("drained.server", "all read, server", "MiB", LESS),
        Row("drained.both", "all read, both ends, with kernel", "MiB", LESS)), drain, prepare_drain),
)
