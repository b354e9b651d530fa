#include "driver/doorbells/vfio_device.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <system_error>

#include "window/error.h"
#include "window/pci_address.h"

namespace shunt::driver {
namespace {

namespace fs = std::filesystem;

// Registers of BAR 0, QEMU's docs/specs/ivshmem-spec.
constexpr std::uint64_t kPosition = 8;   // the own number
constexpr std::uint64_t kDoorbell = 12;  // number << 16 | vector
constexpr std::uint32_t kNumberMax = 0xffff;

// May come right later.
struct NotYet : std::runtime_error {
  using std::runtime_error::runtime_error;
};
// Not with this device.
struct Never : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[noreturn]] void not_yet(const char* what) {
  throw NotYet(fmt::format("{}: {}", what, std::strerror(errno)));
}

std::string first_word(const fs::path& file) {
  std::string word;
  std::ifstream(file) >> word;
  return word;
}

std::string link_name(const fs::path& link) {
  std::error_code none;
  return fs::read_symlink(link, none).filename().string();
}

window::UniqueFd open_node(const std::string& path) {
  window::UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (fd) return fd;
  const char* hint = errno == EBUSY    ? " (another program has it; each device has one user)"
                     : errno == ENOENT ? " (modprobe -a vfio_pci vfio_iommu_type1)"
                                       : "";
  throw NotYet(fmt::format("{}: {}{}", path, std::strerror(errno), hint));
}

}  // namespace

std::string VfioDevice::require_address(const std::string& text) {
  const auto address = window::pci_address(text);
  if (address) return *address;
  throw window::WindowError(
      fmt::format("doorbell vfio:{}: write vfio:DOMAIN:BUS:SLOT.FUNCTION, e.g. vfio:0000:00:10.0 "
                  "(lspci -D shows them)",
                  text));
}

VfioDevice::VfioDevice(const std::string& address, DevicePlaces places)
    : address_(require_address(address)), places_(std::move(places)) {}

std::uint16_t VfioDevice::add_vector() {
  assert(!tried_);
  vectors_.emplace_back(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!vectors_.back()) throw std::system_error(errno, std::generic_category(), "eventfd");
  return static_cast<std::uint16_t>(vectors_.size() - 1);
}

void VfioDevice::tick() {
  if (number_) return;
  const auto now = Clock::now();
  if (now < next_try_) return;
  const bool first = !std::exchange(tried_, true);
  std::string problem;
  try {
    open();
    spdlog::info("doorbell vfio:{} is there, number {}", address_, *number_);
    return;
  } catch (const NotYet& e) {
    problem = e.what();
  } catch (const Never& e) {
    // Later it may be another device in the same slot.
    if (first) throw window::WindowError(fmt::format("doorbell vfio:{}: {}", address_, e.what()));
    problem = e.what();
  }
  device_.reset();
  group_.reset();
  container_.reset();
  next_try_ = now + pause_;
  pause_ = std::min(2 * pause_, kPauseMax);
  if (std::exchange(logged_, problem) == problem) return;
  spdlog::warn("doorbell vfio:{} is not there: {}; it will be tried again", address_, problem);
}

std::string VfioDevice::check_sysfs() const {
  const fs::path device = fs::path(places_.sys) / "bus/pci/devices" / address_;
  if (!fs::exists(device)) throw NotYet("there is no such PCI device (lspci -D shows them)");
  const std::string vendor = first_word(device / "vendor");
  const std::string kind = first_word(device / "device");
  if (vendor != "0x1af4" || kind != "0x1110") {
    throw Never(
        fmt::format("it is device {}:{}, not ivshmem-doorbell (0x1af4:0x1110)", vendor, kind));
  }
  // MSI-X has BAR 1 for itself.
  if (!fs::exists(device / "resource1")) {
    throw Never(
        "it is an ivshmem-plain device, which has no interrupts: QEMU's -device ivshmem-doorbell");
  }
  std::string group = link_name(device / "iommu_group");
  if (group.empty()) {
    throw Never(
        "it has no IOMMU group, since this system has no IOMMU: QEMU's -machine q35 and "
        "-device intel-iommu,intremap=on");
  }
  const std::string driver = link_name(device / "driver");
  if (driver != "vfio-pci") {
    throw NotYet(fmt::format(
        "it is bound to {}, not to vfio-pci: modprobe -a vfio_pci vfio_iommu_type1; "
        "echo vfio-pci > {}/driver_override; {}echo {} > /sys/bus/pci/drivers_probe",
        driver.empty() ? "no driver" : driver, device.string(),
        driver.empty() ? ""
                       : fmt::format("echo {} > {}/driver/unbind; ", address_, device.string()),
        address_));
  }
  return group;
}

void VfioDevice::open_group(const std::string& group) {
  container_ = open_node(places_.dev + "/vfio/vfio");
  group_ = open_node(places_.dev + "/vfio/" + group);
  vfio_group_status status{};
  status.argsz = sizeof status;
  if (::ioctl(group_.get(), VFIO_GROUP_GET_STATUS, &status) != 0) not_yet("VFIO_GROUP_GET_STATUS");
  if ((status.flags & VFIO_GROUP_FLAGS_VIABLE) == 0) {
    throw NotYet(fmt::format("other devices of IOMMU group {} are not bound to vfio-pci", group));
  }
  const int container = container_.get();
  if (::ioctl(group_.get(), VFIO_GROUP_SET_CONTAINER, &container) != 0) {
    not_yet("VFIO_GROUP_SET_CONTAINER");
  }
  if (::ioctl(container, VFIO_CHECK_EXTENSION, VFIO_TYPE1_IOMMU) <= 0) {
    throw NotYet("a kernel module is missing: modprobe vfio_iommu_type1");
  }
  if (::ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU) == 0) return;
  if (errno != EPERM) not_yet("VFIO_SET_IOMMU");
  throw Never("the IOMMU does not remap interrupts: QEMU's -device intel-iommu,intremap=on");
}

void VfioDevice::open() {
  assert(!number_ && !device_);
  const std::string group = check_sysfs();
  open_group(group);
  device_.reset(::ioctl(group_.get(), VFIO_GROUP_GET_DEVICE_FD, address_.c_str()));
  if (!device_) not_yet("VFIO_GROUP_GET_DEVICE_FD");
  check_vectors();
  registers_ = region(VFIO_PCI_BAR0_REGION_INDEX);
  // Its own number last: having one means that it is open.
  const std::uint16_t number = read_number();
  take_interrupts();
  number_ = number;
}

std::uint64_t VfioDevice::region(std::uint32_t index) const {
  vfio_region_info info{};
  info.argsz = sizeof info;
  info.index = index;
  if (::ioctl(device_.get(), VFIO_DEVICE_GET_REGION_INFO, &info) != 0) {
    not_yet("VFIO_DEVICE_GET_REGION_INFO");
  }
  return info.offset;
}

void VfioDevice::check_vectors() const {
  vfio_irq_info info{};
  info.argsz = sizeof info;
  info.index = VFIO_PCI_MSIX_IRQ_INDEX;
  if (::ioctl(device_.get(), VFIO_DEVICE_GET_IRQ_INFO, &info) != 0) {
    not_yet("VFIO_DEVICE_GET_IRQ_INFO");
  }
  if (info.count >= vectors_.size()) return;
  throw Never(
      fmt::format("it has {} interrupt vector(s), and each of the {} partitions it is to be the "
                  "doorbell of needs one: QEMU's ivshmem-doorbell,vectors={}, and its server's",
                  info.count, vectors_.size(), vectors_.size()));
}

std::uint16_t VfioDevice::read_number() const {
  std::uint32_t number = 0;
  const auto at = static_cast<off_t>(registers_ + kPosition);
  if (::pread(device_.get(), &number, sizeof number, at) != sizeof number) not_yet("BAR 0");
  if (number > kNumberMax) throw NotYet("its server has not given it a number");
  return static_cast<std::uint16_t>(number);
}

void VfioDevice::take_interrupts() {
  const std::size_t bytes = sizeof(vfio_irq_set) + vectors_.size() * sizeof(int);
  std::vector<std::uint32_t> buffer((bytes + 3) / 4);
  auto* const set = reinterpret_cast<vfio_irq_set*>(buffer.data());
  set->argsz = static_cast<std::uint32_t>(bytes);
  set->flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
  set->index = VFIO_PCI_MSIX_IRQ_INDEX;
  set->count = static_cast<std::uint32_t>(vectors_.size());
  for (std::size_t i = 0; i < vectors_.size(); ++i) {
    const int fd = vectors_[i].get();
    std::memcpy(set->data + i * sizeof fd, &fd, sizeof fd);
  }
  if (::ioctl(device_.get(), VFIO_DEVICE_SET_IRQS, set) != 0) not_yet("cannot set its interrupts");
  const auto at = static_cast<off_t>(region(VFIO_PCI_CONFIG_REGION_INDEX) + PCI_COMMAND);
  std::uint16_t command = 0;
  if (::pread(device_.get(), &command, sizeof command, at) != sizeof command)
    not_yet("its command register");
  command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
  if (::pwrite(device_.get(), &command, sizeof command, at) != sizeof command)
    not_yet("its command register");
}

int VfioDevice::ring(std::uint16_t number, std::uint16_t vector) {
  if (!number_) return ENOTCONN;
  assert(device_);
  const std::uint32_t value = std::uint32_t{number} << 16 | vector;
  const auto at = static_cast<off_t>(registers_ + kDoorbell);
  const ssize_t n = ::pwrite(device_.get(), &value, sizeof value, at);
  return n == sizeof value ? 0 : n < 0 ? errno : EIO;
}

}  // namespace shunt::driver
