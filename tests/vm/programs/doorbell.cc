// Interrupts between guests by ivshmem-doorbell, with nothing but Linux's vfio-pci:
//
//   vm_doorbell 0000:00:10.0 wait        answers every ring until SIGTERM; says "ready NUMBER" first
//   vm_doorbell 0000:00:10.0 ring PEER N rings that peer N times, waits for each answer, says the times
//
// What it takes, each step of which was seen to be needed: a virtual IOMMU with interrupt remapping
// (else VFIO_SET_IOMMU fails with EPERM), the device bound to vfio-pci, an eventfd set for MSI-X
// vector 0, and bus mastering switched on, which vfio-pci leaves off: without it QEMU drops the
// interrupt. Only BAR 0, the registers, is mapped here: a BAR that was mapped through vfio-pci cannot
// be mapped through sysfs any more (EINVAL), one that was not still can.
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace {

constexpr std::size_t kPosition = 8;   // register: this peer's number
constexpr std::size_t kDoorbell = 12;  // register: peer << 16 | vector
constexpr int kAnswerLimitMs = 5000;

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "vm_doorbell: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void bind_to_vfio(const std::string& address) {
  const std::string device = "/sys/bus/pci/devices/" + address;
  if (std::filesystem::exists(device + "/driver")) return;
  std::ofstream(device + "/driver_override") << "vfio-pci";
  std::ofstream("/sys/bus/pci/drivers_probe") << address;
}

class Device {
 public:
  explicit Device(const std::string& address) {
    const int container = ::open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
    if (container < 0) die("/dev/vfio/vfio");
    std::error_code none;
    const auto link =
        std::filesystem::read_symlink("/sys/bus/pci/devices/" + address + "/iommu_group", none);
    errno = none.value();
    if (none) die("the device has no IOMMU group");
    const int group = ::open(("/dev/vfio" / link.filename()).c_str(), O_RDWR | O_CLOEXEC);
    if (group < 0) die("the IOMMU group");
    if (::ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) != 0) die("VFIO_GROUP_SET_CONTAINER");
    if (::ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU) != 0) die("VFIO_SET_IOMMU");
    fd_ = ::ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address.c_str());
    if (fd_ < 0) die("VFIO_GROUP_GET_DEVICE_FD");
    map_registers();
    allow_interrupts();
  }

  std::uint32_t number() const { return *at(kPosition); }
  void ring(std::uint32_t peer) { *at(kDoorbell) = peer << 16; }

  bool wait(int limit_ms) {
    pollfd ready{rung_, POLLIN, 0};
    std::uint64_t count = 0;
    return ::poll(&ready, 1, limit_ms) == 1 && ::read(rung_, &count, sizeof count) == sizeof count;
  }

 private:
  volatile std::uint32_t* at(std::size_t offset) const {
    return reinterpret_cast<volatile std::uint32_t*>(registers_ + offset);
  }

  vfio_region_info region(std::uint32_t index) const {
    vfio_region_info info{};
    info.argsz = sizeof info;
    info.index = index;
    if (::ioctl(fd_, VFIO_DEVICE_GET_REGION_INFO, &info) != 0) die("VFIO_DEVICE_GET_REGION_INFO");
    return info;
  }

  void map_registers() {
    const vfio_region_info info = region(VFIO_PCI_BAR0_REGION_INDEX);
    void* const mapped =
        ::mmap(nullptr, info.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, off_t(info.offset));
    if (mapped == MAP_FAILED) die("mmap of BAR 0");
    registers_ = static_cast<char*>(mapped);
  }

  void allow_interrupts() {
    rung_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (rung_ < 0) die("eventfd");
    alignas(vfio_irq_set) char buffer[sizeof(vfio_irq_set) + sizeof rung_] = {};
    auto* set = reinterpret_cast<vfio_irq_set*>(buffer);
    set->argsz = sizeof buffer;
    set->flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
    set->index = VFIO_PCI_MSIX_IRQ_INDEX;
    set->count = 1;
    std::memcpy(set->data, &rung_, sizeof rung_);
    if (::ioctl(fd_, VFIO_DEVICE_SET_IRQS, set) != 0) die("VFIO_DEVICE_SET_IRQS");
    const off_t at = off_t(region(VFIO_PCI_CONFIG_REGION_INDEX).offset) + PCI_COMMAND;
    std::uint16_t command = 0;
    if (::pread(fd_, &command, sizeof command, at) != sizeof command) die("configuration space");
    command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
    if (::pwrite(fd_, &command, sizeof command, at) != sizeof command) die("configuration space");
  }

  int fd_ = -1;
  int rung_ = -1;
  char* registers_ = nullptr;
};

void ring_and_time(Device& device, std::uint32_t peer, std::size_t count) {
  std::vector<double> took;
  for (std::size_t i = 0; i < count; i++) {
    const double start = now_seconds();
    device.ring(peer);
    if (!device.wait(kAnswerLimitMs)) {
      errno = ETIMEDOUT;
      die("no answer");
    }
    took.push_back(now_seconds() - start);
  }
  std::sort(took.begin(), took.end());
  std::printf("round trip: median %.0f us, p99 %.0f us\n", took[count / 2] * 1e6,
              took[count * 99 / 100] * 1e6);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 2 ? argv[2] : "";
  if ((what != "wait" || argc != 3) && (what != "ring" || argc != 5)) {
    std::fprintf(stderr, "usage: vm_doorbell ADDRESS wait | ring PEER N\n");
    return 2;
  }
  bind_to_vfio(argv[1]);
  Device device(argv[1]);
  if (what == "ring") {
    ring_and_time(device, std::uint32_t(std::atoi(argv[3])), std::size_t(std::atoi(argv[4])));
    return 0;
  }
  std::printf("ready %u\n", device.number());
  std::fflush(stdout);
  const std::uint32_t peer = 1 - device.number();  // there are two
  for (;;) {
    if (device.wait(-1)) device.ring(peer);
  }
}
