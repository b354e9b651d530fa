"""kill -9 of drivers of a window on a device, under load: the partition's connections to others end with an error
within three seconds at both ends and never with an end of the stream, requests fail but never hang, and after the
restart new connections work between programs that were never restarted. In the end every area is free again."""
import json
import os
import random
import time

from harness import case, leaks, pieces, run_id, settings, status

PORT = "7677"
WITHIN_S = 3
p = case.parser(__doc__)
p.add_argument("--rounds", type=int, default=6)
p.set_defaults(mode="device", dead_after_ms=2500)
OPTIONS = p.parse_args()
SEED = OPTIONS.seed or random.SystemRandom().randrange(1 << 32)


def start_stream(stage, rng):
    """A connection that carries data all the time: reader and writer. The reader keeps up, for what has come is read
    before the error shows."""
    reader = pieces.start_mortal(stage, "server", "read", True, rng, SEED, pause_us=0)
    port = reader.line().split()[1]
    writer = pieces.start_mortal(stage, "client", "write", False, rng, SEED, port=port, pause_us=2000,
                                 journal=os.path.join(run_id.directory(), "journal"))
    for process in (reader, writer):
        assert process.line() == "connected"
    return reader, writer


def check_ends(process, died_at):
    report = json.loads(process.line(20))
    took = time.monotonic() - died_at
    assert report["intact"] and report["end"] in ("ECONNRESET", "EPIPE"), (process.name, report)
    assert took < WITHIN_S, f"{process.name}: the end came after {took:.1f} s"
    process.succeed()
    return took


def one_round(stage, number, dialer):
    rng = random.Random(f"{SEED} {number}")
    victims = rng.choice([["a"], ["b"], ["a", "b"]])
    stream = start_stream(stage, rng)
    assert pieces.dial(dialer, stage, PORT, "keep") == "ok +PONG"
    time.sleep(rng.random() * 0.02)
    status.check_carried(stage, stream[0], received=1)
    for name in victims:
        stage.drivers[name].kill()
        stage.drivers[name].wait()
    died_at = time.monotonic()
    dialer.give(f"{stage.host} {PORT}\n".encode())  # nobody there who could set a connection up
    took = max(check_ends(process, died_at) for process in stream)
    answer = dialer.line(30)
    assert answer.startswith("error E"), f"a connection with {victims} dead: {answer}"
    for name in victims:
        stage.drivers[name].end()
        stage.start_driver(name)
    answer = pieces.dial(dialer, stage, PORT)
    assert answer == "ok +PONG", f"after the restart of {victims}: {answer}"
    return "+".join(victims), took


def exchange(stage):
    case.say(f"  seed {SEED}")
    server = pieces.start_redis(stage, PORT)
    dialer = pieces.start_dialer(stage)
    rounds = [one_round(stage, number, dialer) for number in range(OPTIONS.rounds)]
    case.say("  killed, and the longest until both ends knew: "
             + ", ".join(f"{victims} {took:.1f} s" for victims, took in rounds))
    with stage.start("client", [settings.program("redis_mix"), "--host", stage.host, "--port", PORT,
                                "--requests", "5000"]) as mix:
        mix.line()
        mix.succeed()
    for process in (server, dialer):
        status.check_carried(stage, process, sent=1, received=1, connections=OPTIONS.rounds)
        process.end()
    stage.check_areas_free()
    leaks.check_no_abstract_names(stage)


if OPTIONS.mode != "device":
    p.error("between partitions of one kernel drivers hold no connections: see kill_driver.py")
case.main(exchange, OPTIONS, compare=False)
