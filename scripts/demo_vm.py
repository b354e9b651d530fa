"""Two virtual machines with kernels of their own: redis and iperf3 over virtio-net TCP, then under Shunt.

`./run demo-vm` builds and then calls this. Medians of --rounds rounds, the two kinds in turns; then what carried the bytes,
as both guests count it. Exit status: 0 only if all of it worked and the proof holds. Nothing is left behind.
"""
import csv
import json
import os
import signal
import statistics
import sys
import time

signal.signal(signal.SIGINT, signal.SIG_DFL)
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "vm"))

# pylint: disable=wrong-import-position
from vm import Guests, window
from vm.case import main, parser, say
from vm.memory import MIB
from vm.window import HOST, Window

PROGRAMS = ["redis-server", "redis-benchmark", "iperf3"]
PORTS = {"tcp": ("6379", "5201"), "shunt": ("6380", "5202")}
NAMES = {"tcp": "virtio-net TCP", "shunt": "Shunt"}
SERVER, CLIENT = 1, 0
REQUEST_BYTES = 36  # the least that redis-benchmark sends for a SET or GET
DEADLINE_S = 270    # nothing new is measured after that


class Demo:
    def __init__(self, w):
        self.w = w
        self.figures = {}   # (row, kind) -> values
        self.servers = {}
        self.pids = {}
        self.sent = {"tcp": 0, "shunt": 0}
        self.network = {"tcp": 0, "shunt": 0}
        self.host = w.address(SERVER)

    def start(self, place, kind, argv, **options):
        return self.w.start(place, argv, provider=kind == "shunt", **options)

    def start_servers(self):
        for kind, (redis, iperf) in PORTS.items():
            server = self.start(SERVER, kind, ["redis-server", "--bind", self.host, "--port", redis, "--save", "",
                                               "--appendonly", "no", "--protected-mode", "no"])
            server.line_with("Ready to accept connections")
            self.start(SERVER, kind, ["iperf3", "-s", "-p", iperf, "-B", self.host, "--forceflush"]).line_with("Server")

    def network_bytes(self):
        path = "/sys/class/net/eth0/statistics"
        return sum(map(int, self.w.guests[CLIENT].run(f"cat {path}/rx_bytes {path}/tx_bytes").split()))

    def note(self, keep, row, kind, value):
        if keep:
            self.figures.setdefault((row, kind), []).append(value)

    def redis(self, keep, kind, clients, requests):
        with self.start(CLIENT, kind, ["redis-benchmark", "-h", self.host, "-p", PORTS[kind][0], "-c", str(clients),
                                       "-n", str(requests), "-t", "set,get", "--csv"]) as benchmark:
            rows = list(csv.DictReader(benchmark.rest(60).decode().splitlines()))
        assert [row["test"] for row in rows] == ["SET", "GET"], rows
        self.sent[kind] += 2 * requests
        for row in rows:
            self.note(keep, f"redis {row['test']}, {clients} connection{'s' * (clients > 1)}, requests/s", kind,
                      float(row["rps"]))

    def iperf(self, keep, kind):
        with self.start(CLIENT, kind, ["iperf3", "-c", self.host, "-p", PORTS[kind][1], "--json", "-t", "1"]) as client:
            report = json.loads(client.rest())
        assert "error" not in report, report["error"]
        self.note(keep, "iperf3 stream, Mbit/s", kind, report["end"]["sum_received"]["bits_per_second"] / 1e6)

    def pingpong(self, keep, kind, how, rounds, more):
        path = self.w.program(SERVER, "pingpong")
        with self.start(SERVER, kind, [path, "serve", "--host", self.host, *more]) as serving:
            port = serving.line().split()[1]
            with self.start(CLIENT, kind, [path, "connect", "--host", self.host, "--port", port, "--rounds",
                                           rounds, *more]) as client:
                result = json.loads(client.rest(60).decode().splitlines()[-1])
        self.note(keep, f"round trip of 64 B, {how}, us", kind, result["median_ns"] / 1000)

    def measure(self, rounds):
        started = time.monotonic()
        for number in range(rounds + 1):  # the first one warms up
            assert time.monotonic() - started < DEADLINE_S, "too slow a machine, or too busy"
            for kind in NAMES:
                before = self.network_bytes()
                self.redis(number > 0, kind, 1, 800)
                self.redis(number > 0, kind, 20, 2000)
                self.iperf(number > 0, kind)
                self.pingpong(number > 0, kind, "both asleep before", "100", ["--pause-ms", "5"])
                self.pingpong(number > 0, kind, "one after another", "500", [])
                self.pingpong(number > 0, kind, "both busy", "500", ["--busy"])
                self.network[kind] += self.network_bytes() - before
            say(f"  {f'round {number} of {rounds}' if number else 'warm-up'}: {time.monotonic() - started:.0f} s")

    def table(self):
        rows = list(dict.fromkeys(row for row, _ in self.figures))
        say(f"\n  {'':<36}{NAMES['tcp']:>24}{NAMES['shunt']:>24}{'ratio':>8}")
        for row in rows:
            cells, middle = [], {}
            for kind in NAMES:
                values = self.figures[row, kind]
                middle[kind] = statistics.median(values)
                cells.append(f"{middle[kind]:,.0f} ({min(values):,.0f}-{max(values):,.0f})"
                             if middle[kind] >= 100 else
                             f"{middle[kind]:.1f} ({min(values):.1f}-{max(values):.1f})")
            ratio = middle["shunt"] / middle["tcp"]
            ratio = 1 / ratio if row.endswith(" us") else ratio
            say(f"  {row:<36}{cells[0]:>24}{cells[1]:>24}{ratio:>7.1f}x")

    def prove(self):
        least = self.sent["shunt"] * REQUEST_BYTES
        server = self.w.check_carried(SERVER, "redis-server", received=least)
        stream = self.w.check_carried(SERVER, "iperf3")
        say(f"\n  redis-server in vm{SERVER} counts {server['connections']:,} connections through shared memory, "
            f"{server['bytes_received']:,} bytes received, {server['bytes_sent']:,} sent, none through its kernel's TCP")
        say(f"  iperf3 in vm{SERVER} counts {stream['bytes_received']:,} bytes received so")
        say(f"  vm{CLIENT}'s network card moved {self.network['tcp']:,} bytes for TCP's turns and "
            f"{self.network['shunt']:,} for Shunt's")
        assert self.network["shunt"] < self.network["tcp"] / 100, "Shunt's turns went over the network card"
        say(self.w.shunt(HOST, "window", "show", self.w.device(HOST)))


def demo(options):
    say(f"two guests (Debian's cloud kernel under QEMU), sharing memory by {options.backing}")
    pingpong = window.programs("pingpong")
    with Guests(2, backing=options.backing, size=1024 * MIB, memory_mib=448, programs=PROGRAMS + pingpong) as guests:
        say(f"  {guests.accel}; up after {', '.join(f'{g.boot_s:.1f} s' for g in guests)}")
        with Window(guests, notify=options.notify, dead_after_ms=15000) as w:
            d = Demo(w)
            say(f"  drivers are up ({options.notify}); redis-server and iperf3 -s in vm{SERVER}, twice")
            d.start_servers()
            d.measure(options.rounds)
            d.table()
            d.prove()


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--backing", choices=["ivshmem", "doorbell", "nvdimm", "pmem"], default="ivshmem")
    arguments.add_argument("--notify", choices=["poll", "interrupt"], default="interrupt")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.set_defaults(limit=420)
    main(demo, arguments.parse_args())
