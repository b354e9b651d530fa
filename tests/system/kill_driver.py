"""kill -9 of drivers under load: no established connection is lost, requests fail or succeed but never
hang, and after the restart new connections work again between programs that were never restarted."""
import json
import os
import random
import time

from harness import case, leaks, pieces, run_id, settings, status

PORT = "7666"
p = case.parser(__doc__)
p.add_argument("--rounds", type=int, default=20)
p.set_defaults(mode="window")
OPTIONS = p.parse_args()
SEED = OPTIONS.seed or random.SystemRandom().randrange(1 << 32)


def journal_value(path):
    with open(path, "rb") as f:
        return int.from_bytes(f.read(8), "little")


class Stream:
    """A connection that carries data all the time, made before the first death."""

    def __init__(self, stage, rng):
        self.journal = os.path.join(run_id.directory(), "journal")
        self.reader = pieces.start_mortal(stage, "server", "read", True, rng, SEED, pause_us=100)
        port = self.reader.line().split()[1]
        self.writer = pieces.start_mortal(stage, "client", "write", False, rng, SEED, port=port,
                                          journal=self.journal, pause_us=2000)
        for process in (self.reader, self.writer):
            assert process.line() == "connected"

    def check_progress(self):
        before = journal_value(self.journal)
        deadline = time.monotonic() + 10
        while journal_value(self.journal) < before + 1000:
            assert time.monotonic() < deadline, "the established connection stands still"
            time.sleep(0.005)

    def finish(self, stage):
        status.check_carried(stage, self.reader, received=1)
        self.writer.kill()
        report = json.loads(self.reader.line(20))
        assert report["intact"] and report["end"] == "eof", report
        assert report["bytes"] >= journal_value(self.journal), report
        self.reader.succeed()


def one_round(stage, number, stream, dialer):
    rng = random.Random(f"{SEED} {number}")
    victims = rng.choice([["a"], ["b"], ["a", "b"]])
    outcome = []
    busy = rng.random() < 0.5  # a request is under way when the driver dies
    if busy:
        dialer.give(f"{stage.host} {PORT}\n".encode())
    time.sleep(rng.random() * 0.004 if busy else rng.random() * 0.02)
    for name in victims:
        stage.drivers[name].kill()
        stage.drivers[name].wait()
    if busy:
        outcome.append(dialer.line(25))
        assert outcome[-1] == "ok +PONG" or outcome[-1].startswith("error E"), outcome
    stream.check_progress()
    answer = pieces.dial(dialer, stage, PORT)  # nobody there who could set a connection up
    assert answer.startswith("error E"), f"a connection with {victims} dead: {answer}"
    outcome.append(answer)
    for name in victims:
        stage.drivers[name].end()
        stage.start_driver(name)
    answer = pieces.dial(dialer, stage, PORT, rng.choice(["", "keep"]))
    assert answer == "ok +PONG", f"after the restart of {victims}: {answer}"
    stream.check_progress()
    return outcome


def exchange(stage):
    case.say(f"  seed {SEED}")
    rng = random.Random(SEED)
    server = pieces.start_redis(stage, PORT)
    dialer = pieces.start_dialer(stage)
    assert pieces.dial(dialer, stage, PORT, "keep") == "ok +PONG"
    stream = Stream(stage, rng)
    seen = []
    for number in range(OPTIONS.rounds):
        seen += one_round(stage, number, stream, dialer)
    case.say("  with a driver dead: " + ", ".join(f"{seen.count(s)} x {s}" for s in sorted(set(seen))))
    with stage.start("client", [settings.program("redis_mix"), "--host", stage.host, "--port", PORT,
                                "--requests", "5000"]) as mix:
        mix.line()
        mix.succeed()
    stream.finish(stage)
    for process in (server, dialer):
        status.check_carried(stage, process, sent=1, received=1, connections=OPTIONS.rounds)
        process.end()
    leaks.check_no_abstract_names(stage)


if OPTIONS.mode != "window":
    p.error("drivers exist in the window form only")
case.main(exchange, OPTIONS, compare=False)
