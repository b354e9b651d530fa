"""The frame of a test with virtual machines."""
from harness import frame
from harness.frame import Unavailable, say, timed

__all__ = ["main", "parser", "say", "timed"]


def parser(description):
    return frame.parser(description, limit=170)


def main(test, options):
    """Runs test(options), and exits: 0, 1, or 77 where this machine cannot run guests."""

    def with_guests():
        try:
            test(options)
        except Unavailable as e:
            raise Unavailable(f"NO VIRTUAL MACHINES HERE: {e}") from None

    frame.run(with_guests, options)
