"""1000 connections on which nothing happens cost no CPU: both programs together under 50 ms in 5 s."""
import os
import time

from harness import case, settings, status

CONNECTIONS = 1000
SECONDS = 5
CPU_LIMIT_MS = 50


def cpu_ms(process):
    """CPU time of all threads, from the scheduler's nanosecond counters."""
    total = 0
    for task in os.listdir(f"/proc/{process.pid}/task"):
        with open(f"/proc/{process.pid}/task/{task}/schedstat", encoding="ascii") as f:
            total += int(f.read().split()[0])
    return total / 1e6


def exchange(stage):
    common = ["--host", stage.host, "--connections", str(CONNECTIONS)]
    server = stage.start("server", [settings.program("idle"), "serve", *common], stdin="hold",
                         name="idle-server")
    port = server.line().split()[1]
    client = stage.start("client", [settings.program("idle"), "connect", "--port", port, *common],
                         stdin="hold", name="idle-client")
    for process in (server, client):
        assert process.line() == "established"
    before = {p: cpu_ms(p) for p in (server, client)}
    time.sleep(SECONDS)  # what is measured, not a wait for something
    used = {p.name: cpu_ms(p) - before[p] for p in (server, client)}
    case.say(f"  {stage.mode}: CPU in {SECONDS} s: " +
             ", ".join(f"{name} {ms:.2f} ms" for name, ms in used.items()))
    assert sum(used.values()) < CPU_LIMIT_MS, used
    client.give(b"again\n")  # all of them still work
    for process in (server, client):
        assert process.line() == "alive"
    for process in (server, client):
        status.check_carried(stage, process, sent=2 * CONNECTIONS, received=2 * CONNECTIONS,
                             connections=CONNECTIONS)
    for process in (client, server):
        process.release()
        process.succeed()


case.main(exchange, description=__doc__)
