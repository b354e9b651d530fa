"""The proof proves something: it fails, and --require refuses, when one end is not under Shunt.

Also: a program under Shunt still reaches ordinary servers and serves ordinary clients, with the
reason counted.
"""
import json

from harness import case, pieces, settings, status

PORT = "7777"
BYTES = 200_000


def pump(stage, side, command, *options, **how):
    argv = [settings.program("pump"), command, "--host", stage.host, "--bytes", str(BYTES), "--limit", "30"]
    return stage.start(side, argv + list(options), stdin="hold", name=f"pump-{command}", **how)


def run_pump(stage, server_how, client_how):
    """A pump exchange; returns (server, client), both still alive."""
    server = pump(stage, "server", "serve", "--hold", **server_how)
    port = server.line().split()[1]
    client = pump(stage, "client", "connect", "--hold", "--port", port, **client_how)
    for process in (server, client):
        assert json.loads(process.line())["received"] == BYTES
    return server, client


def expect_not_carried(stage, process, text):
    try:
        status.check_carried(stage, process, sent=BYTES, received=BYTES)
    except status.NotCarried as e:
        assert text in str(e), e
        return
    raise AssertionError(f"the check passed although {process.name} used kernel TCP")


def reasons(stage, process):
    return {k: v for p in status.processes(stage, process) for k, v in p["reasons"].items()}


def ordinary_server(stage):
    """The feature off at the server: by kernel TCP, the check fails, the reason is counted."""
    server, client = run_pump(stage, {"provider": False}, {"require": False})
    expect_not_carried(stage, server, "does not run under Shunt")
    expect_not_carried(stage, client, "kernel TCP took part")
    assert status.totals(stage, client)["kernel"]["bytes_sent"] == BYTES
    counted = reasons(stage, client)
    assert sum(counted.values()) == 1, counted
    case.say(f"  {stage.mode}: ordinary server: {counted}")


def ordinary_client(stage):
    server, client = run_pump(stage, {}, {"provider": False})
    expect_not_carried(stage, client, "does not run under Shunt")
    expect_not_carried(stage, server, "kernel TCP took part")
    counted = reasons(stage, server)
    assert sum(counted.values()) == 1, counted
    case.say(f"  {stage.mode}: ordinary client: {counted}")


def both(stage):
    server, client = run_pump(stage, {}, {})
    for process in (server, client):
        memory = status.check_carried(stage, process, sent=BYTES, received=BYTES)
        assert (memory["bytes_sent"], memory["bytes_received"]) == (BYTES, BYTES), memory
        assert memory["connections"] == 1, memory
        assert not reasons(stage, process)


def required(stage):
    """--require against an ordinary server: connect() fails at once, with an error, and says why."""
    server = pieces.start_redis(stage, PORT, provider=False)
    client = pump(stage, "client", "connect", "--port", PORT)
    assert client.wait(20) != 0, "--require let a kernel TCP connection through"
    assert "connect to" in client.errors(), client.errors()
    case.say(f"  {stage.mode}: --require: {client.errors().strip()}")
    dialer = pieces.start_dialer(stage)
    answer = pieces.dial(dialer, stage, PORT)
    assert answer.startswith("error E"), answer
    counted = reasons(stage, dialer)
    assert counted, "the refused connection has no reason"
    free = pieces.start_dialer(stage, require=False)
    assert pieces.dial(free, stage, PORT) == "ok +PONG"
    case.say(f"  {stage.mode}: --require: {answer}, {counted}")
    server.end()


def exchange(stage):
    if stage.mode == "native":
        server, client = run_pump(stage, {}, {})
        return [p.succeed() for p in (server, client) if p.release() is None]
    for part in (both, ordinary_server, ordinary_client, required):
        part(stage)
    return None


case.main(exchange, description=__doc__, compare=False)
