"""Proof of what carried the bytes: the provider's own counters, read from live processes."""
import json
import os
import time


class NotCarried(AssertionError):
    pass


def _group(pid):
    """The process group; a started program leads its own, so its forked children count as it."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def processes(stage, process):
    """The status entries of `process` and its children."""
    report = json.loads(stage.shunt("status", "--json"))
    return [p for p in report["processes"] if p["pid"] == process.pid or _group(p["pid"]) == process.pid]


def totals(stage, process):
    """Summed counters of `process` and its children: {"shared_memory": {...}, "kernel": {...}}."""
    sums = {via: {"connections": 0, "bytes_sent": 0, "bytes_received": 0}
            for via in ("shared_memory", "kernel")}
    found = processes(stage, process)
    if not found:
        raise NotCarried(f"{process.name} (pid {process.pid}) does not run under Shunt")
    for entry in found:
        for via, sum_ in sums.items():
            for key in sum_:
                sum_[key] += entry["totals"][via][key]
    return sums


def check_carried(stage, process, sent=0, received=0, connections=1):
    """Raises NotCarried unless `process` moved at least that much, all of it in shared memory.

    Natively there is nothing to check. Counters may trail the last call of a busy process by an
    instant, so a shortfall is looked at again for a while; kernel bytes are final at once.
    """
    if not stage.shunted:
        return None
    deadline = time.monotonic() + 2
    while True:
        found = totals(stage, process)
        memory, kernel = found["shared_memory"], found["kernel"]
        if kernel["connections"] or kernel["bytes_sent"] or kernel["bytes_received"]:
            raise NotCarried(f"{process.name}: kernel TCP took part: {kernel}")
        enough = (memory["bytes_sent"] >= sent and memory["bytes_received"] >= received
                  and memory["connections"] >= connections)
        if enough:
            return memory
        if time.monotonic() > deadline:
            raise NotCarried(f"{process.name}: shared memory carried {memory}, expected at least "
                             f"{sent} sent, {received} received, {connections} connections")
        time.sleep(0.02)
