"""redis-server with redis-cli, redis-benchmark and a mixed workload compared byte for byte."""
import json
import os
import random

from harness import case, pieces, run_id, settings, status

PORT = "7379"
p = case.parser(__doc__)
p.add_argument("--part", choices=["cli", "benchmark", "mix"], default="cli")
OPTIONS = p.parse_args()
SEED = OPTIONS.seed or 3


def finish(server):
    server.kill(15)
    server.wait()


def cli_commands():
    """A deterministic script for redis-cli, and the number of payload bytes in it."""
    rng = random.Random(SEED)
    lines = ["PING", "SET k v", "GET k", "GET missing", "INCR n", "INCRBY n 41", "LPUSH l a b c",
             "LRANGE l 0 -1", "HSET h f1 v1 f2 v2", "HGETALL h", "TYPE l", "WRONGCOMMAND x", "DBSIZE"]
    for i in range(400):
        size = rng.choice([1, 10, 100, 1000, 20_000])
        value = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=size))
        lines += [f"SET key:{i} {value}", f"STRLEN key:{i}", f"GET key:{rng.randrange(i + 1)}"]
    return "\n".join(lines) + "\n"


def exchange_cli(stage):
    server = pieces.start_redis(stage, PORT)
    script = os.path.join(run_id.directory(), "commands")
    with open(script, "w", encoding="ascii") as f:
        f.write(cli_commands())
    cli = ["redis-cli", "-h", stage.host, "-p", PORT]
    with stage.start("client", cli, stdin=script) as one:
        answers = one.rest()
        one.succeed()
    with stage.start("client", cli + ["CLIENT", "INFO"]) as info:
        fields = dict(word.split("=", 1) for word in info.rest().decode().split())
    assert fields["addr"].startswith(stage.client_host + ":"), "the server sees a wrong source address"
    assert fields["laddr"] == f"{stage.host}:{PORT}", fields
    big = os.path.join(run_id.directory(), "big")
    with open(big, "wb") as f:
        f.write(random.Random(SEED).randbytes(1 << 20))
    with stage.start("client", cli + ["-x", "SET", "big"], stdin=big) as setter:
        assert setter.rest() == b"OK\n"
    with stage.start("client", cli + ["--raw", "GET", "big"]) as getter:
        with open(big, "rb") as f:
            assert getter.rest() == f.read() + b"\n", "the 1 MiB value came back changed"
    with stage.start("client", cli + ["--pipe"], stdin=write_pipe_file()) as loader:
        loaded = loader.rest()
        loader.succeed()
    assert b"errors: 0, replies: 20000" in loaded, loaded
    status.check_carried(stage, server, sent=len(answers) + (1 << 20),
                         received=os.path.getsize(script) + (1 << 20), connections=5)
    finish(server)
    return answers


def write_pipe_file():
    path = os.path.join(run_id.directory(), "pipe")
    with open(path, "w", encoding="ascii", newline="") as f:
        for i in range(20_000):
            key = f"p:{i}"
            f.write(f"*3\r\n$3\r\nSET\r\n${len(key)}\r\n{key}\r\n$5\r\nvalue\r\n")
    return path


def exchange_benchmark(stage):
    server = pieces.start_redis(stage, PORT)
    tests = "ping_mbulk,set,get,incr,lpush,lpop,mset"
    benchmark = stage.start("client", ["redis-benchmark", "-h", stage.host, "-p", PORT, "-n", "20000",
                                       "-c", "50", "-t", tests, "--csv"])
    rows = [line.split(",") for line in benchmark.rest().decode().splitlines()]
    benchmark.succeed()
    for row in rows[1:]:
        case.say(f"  {stage.mode}: {row[0]} {row[1]} requests/s, p50 {row[4]} ms, p99 {row[6]} ms")
    assert len(rows) == 8, rows
    status.check_carried(stage, server, sent=20_000 * 7 * 4, received=20_000 * 7 * 14, connections=350)
    finish(server)
    return [row[0] for row in rows]


def exchange_mix(stage):
    server = pieces.start_redis(stage, PORT)
    mix = stage.start("client", [settings.program("redis_mix"), "--host", stage.host, "--port", PORT,
                                 "--connections", "50", "--requests", "100000", "--seed", str(SEED),
                                 "--hold"], stdin="hold")
    result = json.loads(mix.line())
    case.say(f"  {stage.mode}: seed {SEED}, {result['sent']} bytes there, {result['received']} back in "
             f"{result['seconds']:.2f} s")
    assert result["received"] > 50 << 20
    status.check_carried(stage, mix, result["sent"], result["received"], 50)
    status.check_carried(stage, server, result["received"], result["sent"], 50)
    mix.release()
    mix.succeed()
    finish(server)
    del result["seconds"]
    return result


EXCHANGES = {"cli": exchange_cli, "benchmark": exchange_benchmark, "mix": exchange_mix}
case.main(EXCHANGES[OPTIONS.part], OPTIONS)
