"""Connections that are short: connect, a byte each way, close."""
import functools
import os
import shutil

from harness.errors import Failed, Unavailable
from harness.rows import LESS, MORE, Experiment, Row

CLIENTS = 200


def _siblings(cpu):
    try:
        with open(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", encoding="ascii") as f:
            return f.read().strip()
    except OSError:
        return str(cpu)


def two_cpus():
    """Two CPUs that the bench may use, of different cores if there are."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise Unavailable("there is only one CPU")
    others = [cpu for cpu in cpus[1:] if _siblings(cpu) != _siblings(cpus[0])]
    return cpus[0], (others or cpus[1:])[0]


def rate(stage, carrier, row, form, clients, **how):
    client = ["rate", "--clients", clients, "--seconds", stage.scale.seconds]
    with stage.pair(carrier, ["--form", form], client, **how) as pair:
        pair.client.give("go")
        count, seconds = pair.client.line("done", 60 + stage.scale.seconds)
        return {row: int(count) / float(seconds)}


def serial(stage, carrier, cpus, row):
    if cpus == 2:
        first, second = two_cpus()
    else:
        first = second = min(os.sched_getaffinity(0))
    stage.note(f"server on CPU {first}, client on CPU {second}", row)
    return rate(stage, carrier, row, "serial", 1, server={"cpus": {first}}, client={"cpus": {second}})


def at_once(stage, carrier, form, row):
    return rate(stage, carrier, row, form, CLIENTS)


def prepare_close(stage):
    stage.closed = stage.affordable(stage.scale.closed, "close.client", "close.both")


def close_all(stage, carrier):
    count = stage.closed
    with stage.holding(carrier, server_argv=["--connections", count]) as pair:
        pair.client.give(f"open {count}")
        pair.client.line("open", 120)
        pair.client.give("close")
        start, end = map(float, pair.client.line("closed", 120))
        last = float(pair.server.line("closed", 120)[0])
        return {"close.client": end - start, "close.both": max(last, end) - start}


LOOKS = ("recvfrom", "recvmsg")


def calls_of(path):
    """System calls in a summary of `strace -c`, all together, less looks for bytes that found nothing yet: how many of
    those there are depends on who is faster."""
    with open(path, encoding="utf-8", errors="replace") as f:
        rows = [line.split() for line in f]
    counts = [int(r[3]) for r in rows if len(r) >= 5 and r[3].isdigit() and r[-1] != "total"]
    counts += [-int(r[4]) for r in rows if len(r) == 6 and r[3].isdigit() and r[-1] in LOOKS]
    if not counts:
        raise Failed("strace wrote no summary")
    return sum(counts)


def _traced(stage, carrier, count):
    """System calls of (server, client) in `count` connections and everything around them."""
    paths = [os.path.join(stage.scratch, f"calls-{end}") for end in ("server", "client")]
    tracers = [["strace", "-f", "-c", "-o", path] for path in paths]
    serve = ["--listen", carrier.family, "--form", "serial", "--connections", count]
    with stage.started(carrier, "server", serve, tracer=tracers[0]) as server:
        address = server.line("ready")[0]
        ask = ["--to", address, "count", "--connections", count]
        with stage.started(carrier, "client", ask, tracer=tracers[1]) as client:
            client.succeed()
            server.succeed()
    return [calls_of(path) for path in paths]


def calls(stage, carrier):
    if not shutil.which("strace"):
        raise Unavailable("strace is missing (Debian: apt-get install strace)")
    few, many = stage.scale.traced
    pairs = zip(_traced(stage, carrier, few), _traced(stage, carrier, many))
    server, client = ((more - less) / (many - few) for less, more in pairs)
    return {"calls.server": server, "calls.client": client}


def _rate(name, title, run, argument):
    return Experiment((Row(name, title, "1/s", MORE),), functools.partial(run, **argument, row=name))


EXPERIMENTS = (
    _rate("rate.two-cpus", "one after another, two CPUs", serial, {"cpus": 2}),
    _rate("rate.one-cpu", "one after another, one CPU", serial, {"cpus": 1}),
    _rate("rate.threads", f"{CLIENTS} at once, threads", at_once, {"form": "threads"}),
    _rate("rate.epoll", f"{CLIENTS} at once, epoll", at_once, {"form": "epoll"}),
    Experiment((Row("close.client", "closing all, client", "s", LESS),
                Row("close.both", "until the server has as well", "s", LESS)), close_all, prepare_close),
    Experiment((Row("calls.server", "system calls, server", "", LESS),
                Row("calls.client", "system calls, client", "", LESS)), calls),
)
