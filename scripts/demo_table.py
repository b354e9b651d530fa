"""Arithmetic of scripts/demo.sh: collects redis-benchmark's figures and shows them side by side.

  free-ports N                            N free TCP ports of 127.0.0.1
  count CSV MS                            how many requests of the slower row take MS milliseconds
  add RESULTS ROUND KIND CLIENTS CSV      appends the rows of one redis-benchmark (KIND: tcp, shunt)
  show RESULTS                            the table
  prove STATUS PID REQUESTS NS TCP SHUNT  checks the counters of process PID in a `shunt status --json`;
                                          with NS > 0 also the bytes that the veth pair carried
  goal RESULTS GOAL                       GET with one connection: how many times kernel TCP

Round 0 is the warm-up: it is collected, and not part of the table.
"""
import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the demo, without a traceback from here

# pylint: disable=wrong-import-position
import csv
import json
import socket
import statistics
import sys

NAMES = {"tcp": "kernel TCP", "shunt": "Shunt"}
# What redis-benchmark sends for its shortest request here: GET key:__rand_int__
REQUEST_BYTES_MIN = 36


def read_csv(path):
    with open(path, encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    if [row["test"] for row in rows] != ["SET", "GET"]:
        sys.exit(f"demo: redis-benchmark printed something unexpected: {rows}")
    return rows


def free_ports(count):
    sockets = [socket.socket() for _ in range(int(count))]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    print(*(s.getsockname()[1] for s in sockets))


def count(path, ms):
    slowest = min(float(row["rps"]) for row in read_csv(path))
    print(max(1000, int(slowest * int(ms) / 1000) // 500 * 500))


def add(results, round_number, kind, clients, path):
    rows = read_csv(path)
    with open(results, "a", encoding="utf-8") as f:
        for row in rows:
            figures = [float(row[k]) for k in ("rps", "p50_latency_ms", "p99_latency_ms")]
            f.write(json.dumps([int(round_number), kind, int(clients), row["test"], figures]) + "\n")
    label = f"round {round_number}" if int(round_number) else "warm-up"
    rates = "   ".join(f"{row['test']} {thousands(float(row['rps'])):>8}/s" for row in rows)
    print(f"{label:<8}  -c {clients:<2}  {NAMES[kind]:<10}  {rates}", flush=True)


def cells(results):
    """{(clients, test, kind): [[rps...], [p50...], [p99...]]}, the warm-up left out."""
    out = {}
    with open(results, encoding="utf-8") as f:
        for line in f:
            number, kind, clients, test, figures = json.loads(line)
            if number > 0:
                cell = out.setdefault((clients, test, kind), [[], [], []])
                for values, figure in zip(cell, figures):
                    values.append(figure)
    return out


def thousands(number):
    return f"{number:,.0f}".replace(",", " ")


def spread(values, scale=1.0):
    middle, least, most = (thousands(f(values) * scale) for f in (statistics.median, min, max))
    return f"{middle} ({least} to {most})"


def ratio(data, clients, test):
    rates = {kind: statistics.median(data[clients, test, kind][0]) for kind in NAMES}
    return rates["shunt"] / rates["tcp"]


def show(results):
    data = cells(results)
    table = [["", "", "requests/s", "p50 us", "p99 us", "ratio"]]
    for clients, test in sorted({key[:2] for key in data}):
        for kind, name in NAMES.items():
            rps, p50, p99 = data[clients, test, kind]
            last = f"{ratio(data, clients, test):.1f}" if kind == "shunt" else ""
            table.append([f"-c {clients} {test}", name, spread(rps), spread(p50, 1000),
                          spread(p99, 1000), last])
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        left = [text.ljust(width) for text, width in zip(row[:2], widths)]
        right = [text.rjust(width) for text, width in zip(row[2:], widths[2:])]
        print("  ".join(left + right).rstrip())


def mb(number):
    return f"{int(number) / 1e6:,.1f} MB".replace(",", " ")


def prove(status, pid, requests, namespaces, tcp_bytes, shunt_bytes):
    with open(status, encoding="utf-8") as f:
        processes = [p for p in json.load(f)["processes"] if p["pid"] == int(pid)]
    if len(processes) != 1:
        sys.exit(f"demo: shunt status does not list redis-server, pid {pid}")
    totals = processes[0]["totals"]
    print(f"redis-server under Shunt (pid {pid}), as `shunt status` counts:")
    for key, name in (("shared_memory", "shared memory"), ("kernel", "kernel TCP")):
        t = totals[key]
        print(f"  {name:<14} {t['connections']:>5} connections, {mb(t['bytes_received']):>10} received, "
              f"{mb(t['bytes_sent']):>10} sent")
    least = int(requests) * REQUEST_BYTES_MIN
    print(f"  redis-benchmark sent it {thousands(int(requests))} requests: at least {mb(least)}; "
          "it ran with --require, so that a connection on kernel TCP would have failed")
    carried = totals["shared_memory"]["bytes_received"]
    failures = []
    if carried < least:
        failures.append("fewer bytes came through shared memory than were sent")
    if totals["kernel"]["connections"] or totals["kernel"]["bytes_received"]:
        failures.append("some bytes came over kernel TCP")
    if int(namespaces):
        print(f"the veth pair, as the kernel counts: {mb(tcp_bytes)} in the TCP rounds, {mb(shunt_bytes)} in "
              "the Shunt rounds")
        if int(shunt_bytes) > carried / 100:
            failures.append("the veth pair carried traffic in the Shunt rounds")
        if int(tcp_bytes) == 0:
            failures.append("the veth pair carried nothing in the TCP rounds")
    if failures:
        sys.exit("demo: " + "; ".join(failures))


def goal(results, least):
    data = cells(results)
    reached = ratio(data, 1, "GET")
    rates = {kind: data[1, "GET", kind][0] for kind in NAMES}
    rounds = [s / t for s, t in zip(rates["shunt"], rates["tcp"])]
    verdict = "reached" if reached >= float(least) else "NOT reached"
    print(f"redis-benchmark -c 1, GET: Shunt is {reached:.1f} times kernel TCP "
          f"(in single rounds {min(rounds):.1f} to {max(rounds):.1f}); goal {least}: {verdict}")
    return 0 if verdict == "reached" else 1


COMMANDS = {"free-ports": free_ports, "count": count, "add": add, "show": show, "prove": prove, "goal": goal}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    sys.exit(COMMANDS[sys.argv[1]](*sys.argv[2:]))
