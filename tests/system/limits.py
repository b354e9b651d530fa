"""Limits that TCP does not notice lose no connection: descriptors, addresses, file size, locked memory.

At each of them every connection that connect() has reported is answered, a client gets as many as natively less 8, and
accept() says EMFILE and keeps the rest waiting.
"""
import os
import sys

from harness import case, status
from harness.frame import Unavailable

PEER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers", "limits.py")
OWN_DESCRIPTORS = 8  # that the provider may need of a client's

# Whose limit, which, its value, connections; and whether shared memory carries them all the same.
CASES = [
    ("server", "descriptors", 40, 120, True),
    ("client", "descriptors", 300, 400, True),
    ("server", "addresses", 400 << 20, 200, False),
    ("client", "addresses", 400 << 20, 200, None),  # as many as there are addresses for, the others by kernel TCP
    ("server", "file-size", 1000, 50, False),
    ("client", "file-size", 1000, 50, False),
    ("client", "locked", 0, 50, None),
]


def run_case(stage, whose, limit, value, count, carried):
    limits = {side: [limit, str(value)] if side == whose else ["none", "0"] for side in ("server", "client")}
    expected = count
    if (whose, limit) == ("client", "descriptors"):
        expected = value - OWN_DESCRIPTORS - 5  # 0, 1, 2 and what the interpreter has open; checked natively too
    options = {"require": carried is True, "stdin": "hold"}
    asked = str(count if expected == count else expected)
    server = stage.start("server", [sys.executable, PEER, "serve", stage.host, *limits["server"], asked],
                         name="limits-server", **options)
    port = server.line().split()[1]
    client = stage.start("client", [sys.executable, PEER, "ask", stage.host, port, *limits["client"], asked],
                         name="limits-client", **options)
    line = client.line(60)
    if line == "unavailable":
        case.say(f"  {whose} {limit}: not allowed here")
        server.kill()
        return None
    words = line.split()
    assert words[0] == "connected" and words[3] == "0", f"{whose} {limit}: {line}"
    assert int(words[1]) >= expected, f"{whose} {limit}: {line}, expected {expected}"
    answered = server.line(60)
    assert answered.startswith(f"answered {asked}"), f"{whose} {limit}: {answered}"
    if (whose, limit) == ("server", "descriptors"):
        assert answered.endswith(" full"), answered
    if carried:
        status.check_carried(stage, client, sent=expected, received=expected, connections=expected)
    elif carried is False and stage.shunted:
        assert status.totals(stage, client)["kernel"]["connections"] >= expected
    for process in (client, server):
        process.release()
        process.succeed()
    return line


def exchange(stage):
    results = [run_case(stage, *each) for each in CASES]
    if all(r is None for r in results):
        raise Unavailable("none of the limits can be set here")
    return results


case.main(exchange, description=__doc__)
