"""The frame of every system test: arguments, modes, time limit, leak check, one line of result.

A test is a script with `exchange(stage) -> comparable result`, run by main(exchange). In all
modes but native the exchange runs natively first and the results must be equal.
"""
from . import frame, run_id
from .frame import Unavailable, say, timed
from .stage import Stage, have_namespaces


def parser(description):
    p = frame.parser(description, limit=110)
    p.add_argument("--mode", choices=["native", "local", "window", "device"], default="native")
    p.add_argument("--notify", choices=["poll", "interrupt"], help="of the drivers (window, device)")
    p.add_argument("--mib", type=int, default=1024, help="size of the window (device)")
    p.add_argument("--dead-after-ms", type=int, default=15000, help="of the drivers (device)")
    p.add_argument("--no-native", action="store_true", help="skip the native run before")
    p.add_argument("--seed", type=int, default=None, help="of everything random; printed")
    return p


def main(exchange, options=None, description=None, compare=True, partitions="ab"):
    """Runs `exchange` in the chosen mode and exits. `options`: from an own parser() call."""
    options = options or parser(description or exchange.__doc__).parse_args()

    def test():
        if options.mode in ("window", "device") and not have_namespaces():
            raise Unavailable("the forms with partitions need the privilege to make network namespaces (run as root)")
        expected = None
        if compare and options.mode != "native" and not options.no_native:
            with Stage("native") as stage:
                expected = timed("native", exchange, stage)
        with Stage(options.mode, options.notify, options.mib, options.dead_after_ms,
                   partitions) as stage:
            result = timed(options.mode, exchange, stage)
        if expected is not None and result != expected:
            raise AssertionError(f"not what the native run gave:\n  {result}\n  {expected}")

    run_id.start_janitor()
    frame.run(test, options, options.mode)
