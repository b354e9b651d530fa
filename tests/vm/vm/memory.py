"""The memory that guests share: how QEMU is told, and what a guest sees.

Every backing is one file on the host, mapped shared.

ivshmem           PCI BAR 2 of a device without a driver
doorbell          the same with interrupts between the guests (ivshmem-doorbell), and a virtual IOMMU,
                  without which Linux gives no interrupt to a program (vfio-pci)
nvdimm, pmem      persistent memory, which Linux gives to programs as device DAX once an info block at
                  4 KiB into the file says so; the program's bytes then start at DAX_OFFSET of the file
"""
import os
import subprocess

from .failure import Unavailable

MIB = 1 << 20
DAX_OFFSET = 2 * MIB  # with 2 MiB alignment and the page structs in the guest's own memory
INFO_BLOCK = 4096     # where the info block lies

PCI_BACKINGS = ("ivshmem", "doorbell")
MODULES = {
    None: [],
    "ivshmem": [],
    "doorbell": ["vfio_pci", "vfio_iommu_type1"],
    "nvdimm": ["nfit", "nd_pmem", "dax_pmem", "device_dax"],
    "pmem": ["virtio_pmem", "nd_pmem", "dax_pmem", "device_dax"],
}
PCI_SLOT = 0x10
VECTORS = 2  # of an ivshmem-doorbell: one for each of two other guests
PCI_ADDRESS = f"0000:00:{PCI_SLOT:02x}.0"  # in every guest
PCI_DEVICE = f"/sys/bus/pci/devices/{PCI_ADDRESS}"


class SharedMemory:
    """The file, and where in it and in a guest the program's bytes are."""

    def __init__(self, backing, path, size):
        self.backing = backing
        self.path = path
        self.size = size
        self.offset = 0 if backing is None or self.is_pci() else DAX_OFFSET  # in the file
        self.length = size - self.offset
        self.device = PCI_DEVICE + "/resource2" if self.is_pci() else "/dev/dax0.0"

    def is_pci(self):
        return self.backing in PCI_BACKINGS

    def create(self, fresh):
        """Makes the file (`fresh`) or takes one that exists, and checks the size."""
        if fresh:
            with open(self.path, "wb") as f:
                f.truncate(self.size)
        if os.path.getsize(self.path) != self.size:
            raise ValueError(f"{self.path} has {os.path.getsize(self.path)} bytes, not {self.size}")
        if self.is_pci() and self.size & (self.size - 1):
            raise ValueError(f"an ivshmem region must be a power of two, not {self.size} bytes")
        if self.offset and not self._has_info_block():
            self._write_info_block()

    def _has_info_block(self):
        with open(self.path, "rb") as f:
            f.seek(INFO_BLOCK)
            return f.read(16) == b"NVDIMM_DAX_INFO\0"

    def _write_info_block(self):
        """Makes the file a device DAX for every guest that looks at it; each finds it at boot."""
        argv = ["ndctl", "write-infoblock", "--mode=devdax", "--map=mem", "--align=2M",
                f"--size={self.size}", f"--output={self.path}"]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
        except FileNotFoundError:
            raise Unavailable("ndctl is missing: install ndctl") from None
        if not self._has_info_block():
            raise Unavailable(f"{' '.join(argv)}: {done.stdout} {done.stderr}")

    def machine_options(self):
        # Under KVM interrupts are remapped only where QEMU has the I/O APIC; other accelerators ignore it.
        return {"nvdimm": {"nvdimm": "on"}, "doorbell": {"kernel-irqchip": "split"}}.get(self.backing, {})

    def arguments(self, server_path=None):
        """QEMU's arguments for one guest. `server_path`: of the doorbell server."""
        if self.backing is None:
            return []
        if self.backing == "doorbell":
            return ["-device", "intel-iommu,intremap=on", "-chardev", f"socket,id=doorbells,path={server_path}",
                    "-device", f"ivshmem-doorbell,chardev=doorbells,vectors={VECTORS},addr={PCI_SLOT:#x}"]
        memory = f"memory-backend-file,id=shared,mem-path={self.path},size={self.size},share=on"
        device = {
            "ivshmem": f"ivshmem-plain,memdev=shared,addr={PCI_SLOT:#x}",
            "nvdimm": "nvdimm,memdev=shared,id=nvdimm0,unarmed=off",
            "pmem": "virtio-pmem-pci,memdev=shared,id=pmem0",
        }[self.backing]
        if self.backing == "nvdimm":
            memory += f",align={2 * MIB}"
        return ["-object", memory, "-device", device]

    def memory_argument(self, own_mib):
        if self.offset == 0:
            return f"{own_mib}M"
        return f"{own_mib}M,slots=2,maxmem={own_mib * MIB + self.size + 1024 * MIB}"
