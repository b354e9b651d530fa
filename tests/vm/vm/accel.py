"""Which accelerator works here. That /dev/kvm exists proves nothing: a kernel must boot under it."""
import os
import subprocess
import tempfile
import time

from harness import run_id

from .failure import Unavailable
from .machine import QEMU

TCG = "tcg,thread=multi"
FIRST_SIGN_S = 3  # a kernel speaks within a second under a KVM that works
INIT_S = 12
_MARK = b"Run /init as init process"


def _boots_under_kvm(kernel, initrd):
    with tempfile.NamedTemporaryFile(dir=run_id.directory(), prefix="probe-") as console:
        argv = [QEMU, "-machine", "q35", "-accel", "kvm", "-cpu", "max", "-m", "256M", "-nodefaults",
                "-no-user-config", "-nographic", "-no-reboot", "-kernel", kernel.image,
                "-initrd", initrd, "-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1",
                "-serial", f"file:{console.name}"]
        try:
            probe = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                     stderr=subprocess.DEVNULL, start_new_session=True,
                                     env=dict(os.environ, SHUNT_TEST_RUN=run_id.ID))
        except FileNotFoundError:
            raise Unavailable(f"{QEMU} is missing: install qemu-system-x86") from None
        run_id.note_group(probe.pid)
        try:
            start = time.monotonic()
            while probe.poll() is None:
                with open(console.name, "rb") as f:
                    seen = f.read()
                if _MARK in seen:
                    return True
                took = time.monotonic() - start
                if took > INIT_S or (took > FIRST_SIGN_S and b"Linux version" not in seen):
                    return False
                time.sleep(0.05)
            return False
        finally:
            probe.kill()
            probe.wait()


def _boot_id():
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as f:
        return f.read().strip()


def find(directory, kernel, initrd):
    """`kvm` or TCG. What a probe found is remembered in `directory` until the host's next boot."""
    chosen = os.environ.get("SHUNT_VM_ACCEL")
    if chosen:
        return chosen
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return TCG
    memory = os.path.join(directory, "accel")
    try:
        with open(memory, encoding="ascii") as f:
            boot_id, accel = f.read().split()
        if boot_id == _boot_id():
            return accel
    except (OSError, ValueError):
        pass
    accel = "kvm" if _boots_under_kvm(kernel, initrd) else TCG
    with open(memory, "w", encoding="ascii") as f:
        f.write(f"{_boot_id()} {accel}\n")
    return accel
