"""The frame of every system test: arguments, modes, time limit, leak check, one line of result.

A test is a script with `exchange(stage) -> comparable result`, run by main(exchange). In all
modes but native the exchange runs natively first and the results must be equal.
"""
import argparse
import os
import signal
import sys
import time
import traceback

from . import run_id, settings
from .leaks import LeakCheck
from .stage import Stage, have_namespaces

SKIPPED = 77  # ctest: SKIP_RETURN_CODE


class TimeLimit(Exception):
    pass


def _on_signal(number, _frame):
    if number == signal.SIGALRM:
        raise TimeLimit("the test's time limit is reached")
    sys.exit(128 + number)


def parser(description):
    default = os.path.join(os.path.dirname(__file__), "..", "..", "..", "build", "release")
    p = argparse.ArgumentParser(description=description)
    p.add_argument("--mode", choices=["native", "local", "window", "device"], default="native")
    p.add_argument("--build", default=os.path.normpath(default), help="build directory")
    p.add_argument("--notify", choices=["poll", "interrupt"], help="of the drivers (window, device)")
    p.add_argument("--mib", type=int, default=1024, help="size of the window (device)")
    p.add_argument("--dead-after-ms", type=int, default=15000, help="of the drivers (device)")
    p.add_argument("--limit", type=int, default=110, help="seconds for the whole test")
    p.add_argument("--no-native", action="store_true", help="skip the native run before")
    p.add_argument("--seed", type=int, default=None, help="of everything random; printed")
    return p


def say(text):
    print(text, flush=True)


def timed(name, call, *arguments):
    start = time.monotonic()
    result = call(*arguments)
    say(f"  {name}: {time.monotonic() - start:.2f} s")
    return result


def main(exchange, options=None, description=None, compare=True):
    """Runs `exchange` in the chosen mode and exits. `options`: from an own parser() call."""
    options = options or parser(description or exchange.__doc__).parse_args()
    settings.build = os.path.abspath(options.build)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, _on_signal)
    signal.alarm(options.limit)
    if options.mode in ("window", "device") and not have_namespaces():
        say("SKIPPED: the forms with partitions need the privilege to make network namespaces (run as root)")
        sys.exit(SKIPPED)
    run_id.start_janitor()
    status = 1
    try:
        leaks = LeakCheck()
        expected = None
        if compare and options.mode != "native" and not options.no_native:
            with Stage("native") as stage:
                expected = timed("native", exchange, stage)
        with Stage(options.mode, options.notify, options.mib, options.dead_after_ms) as stage:
            result = timed(options.mode, exchange, stage)
        if expected is not None and result != expected:
            raise AssertionError(f"not what the native run gave:\n  {result}\n  {expected}")
        leaks.check()
        say(f"PASSED {os.path.basename(sys.argv[0])} {options.mode}")
        status = 0
    except Exception:  # everything is reported; the exit status tells
        traceback.print_exc()
        say(f"FAILED {os.path.basename(sys.argv[0])} {options.mode}")
    finally:
        signal.alarm(0)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        run_id.remove_everything()
    sys.exit(status)
