#include "window/device_object.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <optional>

#include "layout/device.h"
#include "window/error.h"
#include "window/info_block.h"
#include "window/pci_address.h"

namespace shunt::window {
namespace {

constexpr std::string_view kPciPrefix = "pci:";
constexpr std::string_view kDaxPrefix = "/dev/dax";
// vendor and device of QEMU's ivshmem-plain and ivshmem-doorbell
constexpr std::uint64_t kIvshmemVendor = 0x1af4;
constexpr std::uint64_t kIvshmemDevice = 0x1110;
constexpr std::uint64_t kPage = 4096;

[[noreturn]] void fail(const std::string& text) { throw WindowError(text); }

[[noreturn]] void fail_open(const std::string& name, const std::string& path, int error) {
  const std::string what = path == name ? name : fmt::format("{} ({})", name, path);
  if (error == EACCES || error == EPERM) {
    fail(fmt::format("no permission to open {}: be root, or let the device's owner give you access",
                     what));
  }
  fail(fmt::format("cannot open {}: {}", what, std::strerror(error)));
}

std::string read_line(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::array<char, 64> text{};
  const ssize_t n = fd ? ::read(fd.get(), text.data(), text.size()) : -1;
  std::string line(text.data(), n > 0 ? static_cast<std::size_t>(n) : 0);
  while (!line.empty() && (line.back() == '\n' || line.back() == ' ')) line.pop_back();
  return line;
}

// Decimal, or hexadecimal behind 0x. 0 when it is no number.
std::uint64_t read_number(const std::string& path) {
  std::string text = read_line(path);
  const int radix = text.starts_with("0x") ? 16 : 10;
  if (radix == 16) text.erase(0, 2);
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, radix);
  return error == std::errc{} && end == text.data() + text.size() ? value : 0;
}

UniqueFd open_for(const std::string& name, const std::string& path, Access access) {
  const int mode = access == Access::kReadWrite ? O_RDWR : O_RDONLY;
  UniqueFd fd(::open(path.c_str(), mode | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd) fail_open(name, path, errno);
  return fd;
}

// ---- pci:DOMAIN:BUS:SLOT.FUNCTION ----

// What the firmware, or a former user, has enabled answers whatever the kernel's count of users says.
bool answers(const std::string& folder) {
  constexpr off_t kCommand = 4;
  constexpr std::uint8_t kMemory = 2;
  const UniqueFd fd(::open((folder + "/config").c_str(), O_RDONLY | O_CLOEXEC));
  std::uint8_t command = 0;
  return fd && ::pread(fd.get(), &command, 1, kCommand) == 1 && (command & kMemory) != 0;
}

// A function that nobody has enabled does not answer at its addresses. One that a driver has (vfio-pci, for
// doorbells) can be enabled by that only.
void enable_pci(const std::string& name, const std::string& folder) {
  const std::string path = folder + "/enable";
  if (read_number(path) != 0) return;
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) fail_open(name, path, errno);
  if (::write(fd.get(), "1", 1) != 1 && !(errno == EBUSY && answers(folder))) {
    fail(fmt::format("cannot enable {}: {}", name, std::strerror(errno)));
  }
}

DeviceObject open_pci(const std::string& spec, Access access, const DeviceTree& tree) {
  const auto address = pci_address(spec.substr(kPciPrefix.size()));
  if (!address) {
    fail(
        fmt::format("bad PCI device '{}': write pci:DOMAIN:BUS:SLOT.FUNCTION, e.g. "
                    "pci:0000:00:04.0 (lspci -D shows them)",
                    spec));
  }
  DeviceObject object;
  object.kind = BackingKind::kPciBar;
  object.access = access;
  object.align = kPage;
  object.name = fmt::format("{}{}", kPciPrefix, *address);
  const std::string folder = fmt::format("{}/bus/pci/devices/{}", tree.sys, *address);
  struct stat st {};
  if (::stat(folder.c_str(), &st) != 0) {
    fail(
        fmt::format("there is no PCI device {}; lspci -D shows those that there are", object.name));
  }
  const std::uint64_t vendor = read_number(folder + "/vendor");
  const std::uint64_t device = read_number(folder + "/device");
  if (vendor != kIvshmemVendor || device != kIvshmemDevice) {
    fail(fmt::format("{} is no ivshmem device: it is {:04x}:{:04x}, not {:04x}:{:04x}", object.name,
                     vendor, device, kIvshmemVendor, kIvshmemDevice));
  }
  enable_pci(object.name, folder);
  const std::string path = folder + "/resource2";
  object.fd = open_for(object.name, path, access);
  if (::fstat(object.fd.get(), &st) != 0) fail_open(object.name, path, errno);
  object.size = static_cast<std::uint64_t>(st.st_size);
  return object;
}

// ---- /dev/daxX.Y ----

DeviceObject open_character_device(const std::string& name, Access access, const DeviceTree& tree) {
  const std::string folder = fmt::format("{}/bus/dax/devices/{}", tree.sys,
                                         std::filesystem::path(name).filename().string());
  struct stat st {};
  if (::stat(folder.c_str(), &st) != 0) {
    fail(
        fmt::format("{} is no device DAX: only such a device, an ivshmem device or an ordinary "
                    "file can hold a window",
                    name));
  }
  DeviceObject object;
  object.kind = BackingKind::kDeviceDax;
  object.access = access;
  object.name = name;
  object.size = read_number(folder + "/size");
  object.align = read_number(folder + "/align");
  if (object.align == 0 || object.align > layout::kGranuleDefault) {
    fail(
        fmt::format("{} can only be mapped in units of {} bytes: make its namespace again with "
                    "`ndctl create-namespace -m devdax -a 2M`",
                    name, object.align));
  }
  object.fd = open_for(name, name, access);
  return object;
}

// ---- files ----

DeviceObject open_file(const std::string& name, Access access) {
  DeviceObject object;
  object.kind = BackingKind::kFile;
  object.access = access;
  object.name = name;
  object.fd = open_for(name, name, access);
  struct stat st {};
  struct statfs fs {};
  if (::fstat(object.fd.get(), &st) != 0 || ::fstatfs(object.fd.get(), &fs) != 0) {
    fail_open(name, name, errno);
  }
  object.size = static_cast<std::uint64_t>(st.st_size);
  object.align = fs.f_type == HUGETLBFS_MAGIC ? static_cast<std::uint64_t>(fs.f_bsize) : kPage;
  const NamespaceData data = namespace_data(object.fd.get(), object.size, name);
  object.base = data.offset;
  object.size = data.bytes;
  return object;
}

}  // namespace

const char* kind_text(BackingKind kind) {
  switch (kind) {
    case BackingKind::kDirectory:
      return "directory";
    case BackingKind::kFile:
      return "file";
    case BackingKind::kDeviceDax:
      return "device-dax";
    case BackingKind::kPciBar:
      break;
  }
  return "pci-bar";
}

Mapping DeviceObject::map(std::uint64_t offset, std::uint64_t bytes, Access how) const {
  return Mapping(fd.get(), base + offset, bytes, how, name);
}

UniqueFd DeviceObject::fresh_descriptor() const {
  // Through the descriptor: the name may lead to another object by now.
  return open_for(name, fmt::format("/proc/self/fd/{}", fd.get()), access);
}

bool names_device(const std::string& spec) {
  if (spec.starts_with(kPciPrefix) || spec.starts_with(kDaxPrefix)) return true;
  struct stat st {};
  return ::stat(spec.c_str(), &st) == 0 && !S_ISDIR(st.st_mode);
}

std::string canonical_name(const std::string& spec) {
  if (spec.starts_with(kPciPrefix)) {
    const auto address = pci_address(spec.substr(kPciPrefix.size()));
    return address ? fmt::format("{}{}", kPciPrefix, *address) : spec;
  }
  std::error_code error;
  const std::filesystem::path real = std::filesystem::canonical(spec, error);
  if (!error) return real.string();
  std::string name = std::filesystem::absolute(spec).lexically_normal().string();
  if (name.size() > 1 && name.ends_with('/')) name.pop_back();
  return name;
}

DeviceObject open_object(const std::string& spec, Access access, const DeviceTree& tree) {
  if (spec.starts_with(kPciPrefix)) return open_pci(spec, access, tree);
  const std::string name = canonical_name(spec);
  struct stat st {};
  if (::stat(name.c_str(), &st) != 0) fail_open(spec, spec, errno);
  if (S_ISREG(st.st_mode)) return open_file(name, access);
  if (S_ISCHR(st.st_mode)) return open_character_device(name, access, tree);
  if (S_ISBLK(st.st_mode)) {
    fail(
        fmt::format("{} is a block device, which no other kernel sees through its cache: use the "
                    "device DAX of its namespace (`ndctl create-namespace -m devdax`)",
                    name));
  }
  fail(
      fmt::format("{} is {}: a window is a directory, an ordinary file, a device DAX or an ivshmem "
                  "device",
                  name, S_ISDIR(st.st_mode) ? "a directory, not a device" : "not mappable"));
}

}  // namespace shunt::window
