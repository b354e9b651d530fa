"""Virtual machines for tests: Debian's cloud kernel, an initramfs made on the spot, QEMU.

    from vm import Guests
    with Guests(2, backing="ivshmem", size=64 << 20, programs=["/usr/bin/redis-server"]) as guests:
        print(guests[0].run("uname -a"))

See tests/vm/README.md.
"""
import os
import sys

# The names of a run and the certain clean-up are those of the system tests.
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "system"))

from .commands import CommandFailed
from .failure import GuestFailed, Unavailable
from .guests import Guests

__all__ = ["CommandFailed", "GuestFailed", "Guests", "Unavailable"]
