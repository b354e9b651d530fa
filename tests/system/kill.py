"""kill -9 of one end of a stream at random moments.

What the system took from the writer before its death arrives, byte for byte, and then the stream
ends as TCP would end it. The survivor never hangs. Clients of a long-lived server that are killed at
any moment, also while they connect, cost it nothing that stays.
"""
import json
import os
import random
import time

from harness import case, leaks, pieces, run_id, settings, status

PORT = "7555"
p = case.parser(__doc__)
p.add_argument("--rounds", type=int, default=30, help="for each victim")
OPTIONS = p.parse_args()
SEED = OPTIONS.seed or random.SystemRandom().randrange(1 << 32)
PATIENCE_S = 15


def one_round(stage, number, victim_role):
    """One stream, one death. The first of the two programs listens."""
    rng = random.Random(f"{SEED} {victim_role} {number}")
    journal = os.path.join(run_id.directory(), "journal")
    if os.path.exists(journal):
        os.unlink(journal)
    seed = rng.randrange(1 << 30)
    first_role = rng.choice(["write", "read"])
    second_role = "read" if first_role == "write" else "write"
    first = pieces.start_mortal(stage, "server", first_role, True, rng, seed, journal=journal)
    port = first.line().split()[1]
    second = pieces.start_mortal(stage, "client", second_role, False, rng, seed, port=port, journal=journal)
    ends = {first_role: first, second_role: second}
    for process in ends.values():
        assert process.line(PATIENCE_S) == "connected"
    time.sleep(rng.random() ** 2 * 0.06)  # the random moment
    victim, survivor = ends.pop(victim_role), ends.popitem()[1]
    victim.kill()
    report = json.loads(survivor.line(PATIENCE_S))
    survivor.succeed(PATIENCE_S)
    victim.wait()
    check_report(victim_role, report, journal)
    for process in (victim, survivor):
        process.end()
    return report["end"]


def check_report(victim_role, report, journal):
    assert report["intact"], report
    with open(journal, "rb") as f:
        taken = int.from_bytes(f.read(8), "little")
    if victim_role == "write":
        assert report["end"] == "eof", report
        assert taken <= report["bytes"] <= taken + (1 << 20), (taken, report)
    else:
        assert report["end"] in ("ECONNRESET", "EPIPE"), report
        assert report["bytes"] == taken, (taken, report)


def wait_until(what, condition):
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition())[0]:
        assert time.monotonic() < deadline, f"{what}: {value[1]}"
        time.sleep(0.02)


def server_survives(stage):
    """Clients die at random moments, connecting or busy; the server's descriptors come back down."""
    server = pieces.start_redis(stage, PORT)
    dialer = pieces.start_dialer(stage)
    assert pieces.dial(dialer, stage, PORT) == "ok +PONG"
    before = leaks.memory_objects(server.pid)
    for number in range(OPTIONS.rounds):
        rng = random.Random(f"{SEED} server {number}")
        with stage.start("client", [settings.program("redis_mix"), "--host", stage.host, "--port", PORT,
                                    "--connections", "8", "--requests", "1000000"]) as client:
            time.sleep(rng.random() * 0.06)
            client.kill()
            client.wait()
        assert pieces.dial(dialer, stage, PORT) == "ok +PONG", f"round {number}"

    def back_down():
        now = leaks.memory_objects(server.pid)
        # A pool of free areas may stay, but it has a bound that does not grow with the rounds.
        bounded = now[0] <= before[0] + 16 and now[1] <= before[1] + 32 and now[2] <= before[2] + 16
        return bounded, f"(memfds, mappings, descriptors) {before} before, {now} after"

    wait_until("the server keeps what belonged to dead clients", back_down)
    case.say(f"  {stage.mode}: server (memfds, mappings, descriptors) {before} before, "
             f"{leaks.memory_objects(server.pid)} after")
    status.check_carried(stage, server, sent=1, received=1, connections=OPTIONS.rounds)
    for process in (dialer, server):
        process.end()


def exchange(stage):
    case.say(f"  seed {SEED}")
    drivers = {name: leaks.memory_objects(d.pid) for name, d in stage.drivers.items()}
    for victim in ("write", "read"):
        ends = [one_round(stage, number, victim) for number in range(OPTIONS.rounds)]
        case.say(f"  {stage.mode}: {victim} end killed {len(ends)} times: "
                 + ", ".join(f"{ends.count(e)} x {e}" for e in sorted(set(ends))))
    server_survives(stage)
    leaks.check_no_abstract_names(stage)
    stage.check_areas_free()
    for name, before in drivers.items():
        def same(name=name, before=before):
            now = leaks.memory_objects(stage.drivers[name].pid)
            # A driver may open a few descriptors of its own at its first connection.
            fine = now[:2] == before[:2] and now[2] <= before[2] + 4
            return fine, f"(memfds, mappings, descriptors) {before} before, {now} after"
        wait_until(f"driver {name} keeps what belonged to dead programs", same)


case.main(exchange, OPTIONS, compare=False)
