"""The guests' network: what ordinary TCP between them runs over.

bridge  a bridge in a network namespace of its own, a tap for each guest with segmentation
        offload, as libvirt sets it up; the host's programs join with `ip netns exec`. Needs root.
mcast   QEMU's multicast socket on loopback: no privilege, no offload, the host is not in it.
"""
import contextlib
import ctypes
import fcntl
import os
import struct
import subprocess

from harness import run_id

PREFIX = "10.77.0."
HOST = PREFIX + "254"
_TUNSETIFF = 0x400454CA
_IFF_TAP_NO_PI_VNET_HDR = 0x0002 | 0x1000 | 0x4000
_CLONE_NEWNET = 0x40000000


def address(index):
    return f"{PREFIX}{index + 1}"


def _ip(*words, check=True):
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=check, timeout=20)


@contextlib.contextmanager
def _inside(namespace):
    """This thread in another network namespace for a moment."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(fd):
        if libc.setns(fd, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns to {namespace}")

    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        other = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            enter(other)
        finally:
            os.close(other)
        try:
            yield
        finally:
            enter(own)
    finally:
        os.close(own)


def _open_tap(name):
    """A tap that lives as long as somebody holds its descriptor."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP_NO_PI_VNET_HDR))
    except OSError:
        os.close(fd)
        raise
    return fd


def _mac(index):
    return f"52:54:00:77:00:{index + 1:02x}"


class Bridge:
    kind = "bridge"

    def __init__(self):
        self.namespace = run_id.PREFIX + "vm"
        _ip("netns", "add", self.namespace)
        for words in (("link", "set", "lo", "up"), ("link", "add", "bridge", "type", "bridge"),
                      ("address", "add", f"{HOST}/24", "dev", "bridge"), ("link", "set", "bridge", "up")):
            _ip("-n", self.namespace, *words)

    def attach(self, index):
        """Arguments for a guest's QEMU, and the descriptors it inherits (close them afterwards)."""
        tap = f"tap{index}"
        with _inside(self.namespace):
            fd = _open_tap(tap)
        _ip("-n", self.namespace, "link", "set", tap, "master", "bridge", "up")
        return ["-netdev", f"tap,id=net0,fd={fd}",
                "-device", f"virtio-net-pci,netdev=net0,mac={_mac(index)},romfile="], [fd]

    def close(self):
        _ip("netns", "delete", self.namespace, check=False)


class Multicast:
    kind = "mcast"
    namespace = None

    def __init__(self):
        number = os.getpid()
        group = f"239.77.{number >> 8 & 255}.{number & 255}:{10000 + number % 50000}"
        self._options = f"socket,id=net0,mcast={group},localaddr=127.0.0.1"

    def attach(self, index):
        return ["-netdev", self._options,
                "-device", f"virtio-net-pci,netdev=net0,mac={_mac(index)},romfile="], []

    def close(self):
        pass


class NoNetwork:
    kind = None
    namespace = None

    def attach(self, _index):
        return [], []

    def close(self):
        pass


def have_bridge():
    """Whether this user may make namespaces, bridges and taps."""
    probe = run_id.PREFIX + "probe"
    try:
        if _ip("netns", "add", probe, check=False).returncode != 0:
            return False
        try:
            with _inside(probe):
                os.close(_open_tap("tap0"))
            return _ip("-n", probe, "link", "add", "bridge", "type", "bridge", check=False).returncode == 0
        except OSError:
            return False
        finally:
            _ip("netns", "delete", probe, check=False)
    except FileNotFoundError:
        return False


def make(kind):
    """`kind`: bridge, mcast, None, or auto: bridge where the privilege allows it."""
    if kind == "auto":
        kind = "bridge" if have_bridge() else "mcast"
    return {"bridge": Bridge, "mcast": Multicast, None: NoNetwork}[kind]()
