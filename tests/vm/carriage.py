"""Unmodified programs between kernels: redis, iperf3, curl and 64 MiB both ways, all under --require.

Between two guests, between the host and a guest, and between all three at once. With backing "doorbell": redis and
64 MiB both ways between three guests whose drivers interrupt each other.
"""
import hashlib
import json
import random

from vm import Guests, window
from vm.case import main, parser, say, timed
from vm.memory import MIB
from vm.window import HOST, Window

PUMP_BYTES = 64 * MIB
FILE_BYTES = 3 * MIB
PROGRAMS = ["redis-server", "redis-cli", "redis-benchmark", "iperf3", "curl"]


def redis(w, server, client):
    address = w.address(server)
    with w.start(server, ["redis-server", "--bind", address, "--port", "7379", "--save", "", "--appendonly", "no",
                          "--protected-mode", "no"]) as running:
        running.line_with("Ready to accept connections")
        cli = ["redis-cli", "-h", address, "-p", "7379"]
        value = random.Random(1).randbytes(20_000).hex()
        with w.start(client, cli + ["SET", "k", value]) as setting:
            assert setting.rest() == b"OK\n"
        with w.start(client, cli + ["GET", "k"]) as getting:
            assert getting.rest().decode() == value + "\n"
        with w.start(client, cli + ["CLIENT", "INFO"]) as info:
            fields = dict(word.split("=", 1) for word in info.rest().decode().split())
        assert fields["addr"].startswith(w.address(client) + ":"), fields
        with w.start(client, ["redis-benchmark", "-h", address, "-p", "7379", "-n", "2000", "-c", "5",
                              "-t", "set,get", "--csv"]) as benchmark:
            rows = [line.split(",") for line in benchmark.rest(90).decode().splitlines()]
        assert len(rows) == 3, rows
        w.check_carried(server, "redis-server", sent=40_000 + 2000 * 5, received=40_000 + 2000 * 20, connections=13)
    return ", ".join(f"{row[0]} {row[1]}/s" for row in rows[1:])


def iperf(w, server, client):
    with w.start(server, ["iperf3", "-s", "-p", "7201", "-B", w.address(server), "--forceflush"]) as running:
        said = []
        moved = 0
        for options in ([], ["-R"], ["-P", "2"]):
            running.line_with("Server listening")  # anew before each test: it closes its listener in between
            with w.start(client, ["iperf3", "-c", w.address(server), "-p", "7201", "--json", "-t", "1", *options]) as c:
                report = json.loads(c.rest())
            assert "error" not in report, report["error"]
            received = report["end"]["sum_received"]
            assert received["bytes"] > MIB, received
            moved += received["bytes"]
            said.append(f"{received['bits_per_second'] / 1e9:.1f} Gbit/s")
        memory = w.check_carried(server, "iperf3", connections=7)
        assert memory["bytes_sent"] + memory["bytes_received"] >= moved, (memory, moved)
    return ", ".join(said)


def curl(w, server, client):
    data = random.Random(2).randbytes(FILE_BYTES)
    w.guests[server].run("mkdir -p /tmp/www")
    w.guests[server].put("/tmp/www/f", data)
    with w.start(server, ["/usr/bin/python3", "-u", "-m", "http.server", "7080", "--bind", w.address(server),
                          "--directory", "/tmp/www"]) as running:
        running.line_with("Serving HTTP on")
        with w.start(client, ["curl", "-sSf", "--noproxy", "*", f"http://{w.address(server)}:7080/f"]) as fetching:
            fetched = fetching.rest()
        assert hashlib.sha256(fetched).digest() == hashlib.sha256(data).digest()
        w.check_carried(server, "python3", sent=FILE_BYTES)


def start_pump(w, server, client, seed):
    common = ["--host", w.address(server), "--bytes", str(PUMP_BYTES), "--seed", str(seed), "--hold", "--limit", "100"]
    serving = w.start(server, [w.program(server, "pump"), "serve", "--form", "epoll-et", *common], stdin="hold")
    port = serving.line().split()[1]
    return serving, w.start(client, [w.program(client, "pump"), "connect", "--form", "blocking", "--port", port,
                                     *common], stdin="hold")


def finish_pump(w, server, client, running):
    results = [json.loads(process.line(100)) for process in running]
    for here, there in (results, results[::-1]):
        assert here["sent"] == there["received"] == PUMP_BYTES, results
        assert here["sent_hash"] == there["received_hash"], results
    for place in (server, client):
        w.check_carried(place, "pump", sent=PUMP_BYTES, received=PUMP_BYTES)
    for process in running:
        process.release()
        process.wait()
    return f"{min(r['mib_per_s_each_way'] for r in results):.0f} MiB/s each way"


def pump(w, server, client):
    return finish_pump(w, server, client, start_pump(w, server, client, 5))


def all_pairs(w):
    """Every pair of partitions at once, 64 MiB both ways each."""
    pairs = [(s, c) for i, s in enumerate(w.places) for c in w.places[i + 1:]]
    running = [start_pump(w, s, c, 10 + i) for i, (s, c) in enumerate(pairs)]
    return ", ".join(finish_pump(w, s, c, processes) for (s, c), processes in zip(pairs, running))


def check_interrupts(w):
    """Nobody polled, and interrupts woke the drivers: news for which none came in time are rare."""
    for partition in w.show()["partitions"]:
        arena = partition["arena"]
        received, missed = partition["counters"]["doorbells_received"], arena["counters"]["doorbells_missed"]
        assert partition["notify"] == "interrupt" and arena["doorbells"] == len(w.places) - 1, partition
        for peer in partition["peers"]:
            bell = peer["doorbell"]
            assert bell["kind"] == "ivshmem" and bell["present"] and bell["rung"] > 0, partition
        assert received > 0 and missed <= 2 + received // 20, partition
        say(f"    {partition['name']} was rung {received} times, missed {missed}")


def comes_back(w, place):
    """A guest that was killed has another number at the doorbells' server when it is back."""
    w.guests[place].kill()
    w.guests[place].boot()
    w.bind_to_vfio(place)
    w.start_driver(place, dead_after_ms=4000)  # it waits for that long whether its former life goes on
    w.await_doorbells()


def test(options):
    interrupts = options.backing == "doorbell"
    with Guests(3 if interrupts else 2, backing=options.backing, size=512 * MIB, memory_mib=320 if interrupts else 448,
                python=not interrupts, programs=PROGRAMS + window.programs("pump")) as guests:
        with Window(guests, notify=options.notify, dead_after_ms=options.dead_after_ms) as w:
            say(f"  {options.backing}, {options.notify}, {guests.accel}, partitions: {', '.join(map(w.name, w.places))}")
            pairs = [(1, 0)] + [(0, HOST), (HOST, 1)] * (HOST in w.places and not options.short)
            for server, client in pairs:
                what = f"{w.name(client)} to {w.name(server)}"
                for exchange in (redis,) if interrupts else (redis, iperf, curl, pump):
                    if exchange is not curl or server != HOST:
                        said = timed(f"{what}, {exchange.__name__}", exchange, w, server, client)
                        if said:
                            say(f"    {said}")
            say("    " + timed("all pairs at once", all_pairs, w))
            if interrupts:
                check_interrupts(w)
                timed("a guest is killed and comes back", comes_back, w, 1)
            w.check_all_areas_back()
            say(w.shunt(HOST, "window", "show", w.device(HOST)))


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--backing", choices=["ivshmem", "doorbell", "nvdimm", "pmem"], default="ivshmem")
    arguments.add_argument("--notify", choices=["poll", "interrupt"], default="interrupt")
    arguments.add_argument("--short", action="store_true", help="pairs of guests, and all at once")
    arguments.add_argument("--dead-after-ms", type=int, default=15000)
    main(test, arguments.parse_args())
