"""Short connections without end, to servers of every form: each carries all its bytes, and none is reset.

Servers with forked workers, a child for each connection, a thread for each; and a client that forks all the time. Part
of the clients closes at once. Both ends are in one program, so that what carried the bytes is shown by --require.
"""
import os
import sys

from harness import case

PEER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers", "churn.py")
FORMS = ["workers", "forking", "threads", "client-forks"]
SECONDS = 3


def exchange(stage):
    for form in FORMS:
        process = stage.start("server", [sys.executable, PEER, form, str(SECONDS)], name=f"churn-{form}")
        line = process.line(60)
        assert line.startswith("done "), f"{form}: {line}"
        assert int(line.split()[1]) > 0, form
        case.say(f"  {stage.mode}: {form}: {line}")
        process.succeed()
    return "all carried"


case.main(exchange, description=__doc__)
