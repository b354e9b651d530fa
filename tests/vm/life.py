"""A guest is killed, paused, frozen or reset while bytes flow: the others' connections to it end soon, it comes back.

The host and the other guest go on all the time; nobody is restarted but the guest itself.
"""
import json
import time

from vm import Guests, window
from vm.case import main, parser, say
from vm.memory import MIB
from vm.window import HOST, Window

ENDS_WITHIN_S = 3.0
DEAD_AFTER_MS = 2500
SLACK_S = 1.0  # emulated guests on a busy machine
BYTES = 1 << 40  # more than can be moved: only an end ends it
PORT = "7300"


def start_stream(w, server, client, seed):
    """Both ways, for ever. Gives the processes when bytes flow."""
    common = ["--host", w.address(server), "--bytes", str(BYTES), "--seed", str(seed), "--limit", "200"]
    serving = w.start(server, [w.program(server, "pump"), "serve", *common])
    port = serving.line().split()[1]
    connected = w.start(client, [w.program(client, "pump"), "connect", "--port", port, *common])
    await_bytes(w, client, 1 * MIB)
    return serving, connected


def start_round_trips(w, server, client):
    """Messages to and fro with pauses, for longer than any round."""
    common = ["--host", w.address(server), "--bytes", str(64 << 10)]
    serving = w.start(server, [w.program(server, "pingpong"), "serve", *common])
    port = serving.line().split()[1]
    trips = w.start(client, [w.program(client, "pingpong"), "connect", "--port", port, *common,
                             "--rounds", str(1 << 20), "--pause-ms", "2"])
    await_bytes(w, server, 1 * MIB, "pingpong")
    return serving, trips


def carried(w, place, program):
    return w.totals(place, program)["shared_memory"]["bytes_received"]


def await_bytes(w, place, more, program="pump", limit_s=20):
    goal = carried(w, place, program) + more
    deadline = time.monotonic() + limit_s
    while carried(w, place, program) < goal:
        assert time.monotonic() < deadline, f"no bytes arrive at {program} in {place}"
        time.sleep(0.05)


def await_reset(process, since, what):
    status = process.wait(30)
    took = time.monotonic() - since
    assert status not in (0, None) and "Connection reset" in process.errors(), (what, status, process.errors())
    return took


def connect_fails_at_once(w, client, server):
    start = time.monotonic()
    process = w.start(client, [w.program(client, "pump"), "connect", "--host", w.address(server), "--port", PORT,
                               "--bytes", "1"])
    assert process.wait(20) != 0, "a connect to a dead partition succeeded"
    took = time.monotonic() - start
    assert took < 1.5 + SLACK_S, f"a connect to a dead partition took {took:.1f} s"
    return took


def await_return(w, place, generation):
    """A driver of that partition in a later life than `generation`, which everybody speaks with."""
    deadline = time.monotonic() + 30
    while True:
        partition = w.partition(w.name(place))
        if partition["driver"] == "up" and partition["generation"] > generation:
            return
        assert time.monotonic() < deadline, partition
        time.sleep(0.1)


def exchange(w, server, client):
    common = ["--host", w.address(server), "--bytes", str(MIB), "--seed", "3", "--limit", "60"]
    deadline = time.monotonic() + 20
    while True:
        with w.start(server, [w.program(server, "pump"), "serve", *common]) as serving:
            port = serving.line().split()[1]
            with w.start(client, [w.program(client, "pump"), "connect", "--port", port, *common]) as connected:
                if connected.wait(60) == 0:
                    results = [json.loads(p.line()) for p in (serving, connected)]
                    assert results[0]["sent_hash"] == results[1]["received_hash"], results
                    return
        assert time.monotonic() < deadline, "no connection to a partition that is back: " + connected.errors()
        time.sleep(0.2)


def lose(w, how, number, bystanders):
    """Guest 1 is lost while it streams with guest 0 and the host, which go on with each other; and comes back."""
    guest = w.guests[1]
    generation = w.partition("vm1")["generation"]
    lost_there, first = start_stream(w, 1, 0, number)
    lost_there_too, second = start_stream(w, 1, HOST, number + 1)
    began = time.monotonic()
    {"kill": guest.kill, "pause": guest.pause, "freeze": guest.freeze, "reset": guest.reset}[how]()
    took = [await_reset(process, began, how) for process in (first, second)]
    assert max(took) < ENDS_WITHIN_S + SLACK_S, f"{how}: connections ended after {max(took):.1f} s"
    if how in ("pause", "freeze", "kill"):
        refused = connect_fails_at_once(w, 0, 1)
        say(f"    connect to it: refused after {refused:.2f} s, the program's start included")
    await_bytes(w, HOST, MIB, "pingpong")
    assert all(p.running() for p in bystanders), "a connection between others ended"
    if how in ("pause", "freeze"):
        (guest.resume if how == "pause" else guest.thaw)()
        for process in (lost_there, lost_there_too):
            await_reset(process, time.monotonic(), how + ", the other end")
    else:
        (guest.boot if how == "kill" else guest.await_boot)()
        w.start_driver(1)
        await_return(w, 1, generation)
    say(f"  {how}: connections of guest 0 and the host ended after {took[0]:.2f} s, {took[1]:.2f} s; it is back")


def one_round(w, events, number):
    bystanders = start_round_trips(w, HOST, 0)
    for how in events:
        lose(w, how, number + 1, bystanders)
        exchange(w, 1, 0)
    for process in bystanders:
        process.end()
    exchange(w, HOST, 1)
    w.await_doorbells()
    w.check_all_areas_back()


def test(options):
    with Guests(2, backing=options.backing, size=512 * MIB, memory_mib=448,
                programs=window.programs("pump", "pingpong")) as guests:
        with Window(guests, notify=options.notify, dead_after_ms=DEAD_AFTER_MS) as w:
            assert HOST in w.places, "needs root"
            for number in range(options.rounds):
                say(f"round {number + 1} of {options.rounds}")
                one_round(w, options.events, 10 * number)
            one_round(w, options.afterwards, 10 * options.rounds)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--backing", choices=["ivshmem", "nvdimm", "pmem"], default="ivshmem")
    arguments.add_argument("--notify", choices=["poll", "interrupt"], default="interrupt")
    arguments.add_argument("--rounds", type=int, default=5)
    events = {"nargs": "*", "choices": ["kill", "pause", "freeze", "reset"]}
    arguments.add_argument("--events", **events, default=["kill", "pause", "reset"], help="of each round")
    arguments.add_argument("--afterwards", **events, default=["freeze"], help="once; freeze: SIGSTOP to its QEMU")
    main(test, arguments.parse_args())
