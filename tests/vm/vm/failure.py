"""The errors of this package. Every one says what failed, on what, and what was seen last."""
from harness.frame import Unavailable

__all__ = ["GuestFailed", "Unavailable"]


class GuestFailed(Exception):
    """A guest did not do what it was told: the message ends with its console's last lines."""
