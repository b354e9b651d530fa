"""What every test that is a script has around it: options, time limit, leak check, one line of result."""
import argparse
import os
import signal
import sys
import time
import traceback

from . import run_id, settings
from .leaks import LeakCheck

SKIPPED = 77  # ctest: SKIP_RETURN_CODE


class TimeLimit(Exception):
    pass


class Unavailable(Exception):
    """This machine cannot run the test; the text says what it lacks."""


def _on_signal(number, _frame):
    if number == signal.SIGALRM:
        raise TimeLimit("the test's time limit is reached")
    sys.exit(128 + number)


def parser(description, limit):
    default = os.path.join(os.path.dirname(__file__), "..", "..", "..", "build", "release")
    p = argparse.ArgumentParser(description=description)
    p.add_argument("--build", default=os.path.normpath(default), help="build directory")
    p.add_argument("--limit", type=int, default=limit, help="seconds for the whole test")
    return p


def say(text):
    print(text, flush=True)


def timed(name, call, *arguments):
    start = time.monotonic()
    result = call(*arguments)
    say(f"  {name}: {time.monotonic() - start:.2f} s")
    return result


def run(test, options, form=""):
    """Runs test(), and exits: 0, 1, or 77 where it is Unavailable. `form`: for the line of result."""
    settings.build = os.path.abspath(options.build)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, _on_signal)
    signal.alarm(options.limit)
    name = f"{os.path.basename(sys.argv[0])} {form}".rstrip()
    status = 1
    try:
        leaks = LeakCheck()
        test()
        leaks.check()
        say(f"PASSED {name}")
        status = 0
    except Unavailable as e:
        say(f"SKIPPED {name}: {e}")
        status = SKIPPED
    except Exception:  # everything is reported; the exit status tells
        traceback.print_exc()
        say(f"FAILED {name}")
    finally:
        signal.alarm(0)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        run_id.remove_everything()
    sys.exit(status)
