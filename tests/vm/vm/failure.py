"""The errors of this package. Every one says what failed, on what, and what was seen last."""


class Unavailable(Exception):
    """This machine cannot run guests: QEMU or the kernel package is missing. Tests skip, loudly."""


class GuestFailed(Exception):
    """A guest did not do what it was told: the message ends with its console's last lines."""
