// DeviceObject: one mappable object, opened, whatever it holds.
//
//   /dev/shm/w.img      an ordinary file, hugetlbfs too. The file of an NVDIMM that a guest made device
//                       DAX begins with an info block (info_block.h): the window begins behind it
//   /dev/dax0.0         device DAX: NVDIMM, virtio-pmem, CXL
//   pci:0000:00:04.0    BAR 2 of an ivshmem device: `resource2`, never `resource2_wc`, because write
//                       combining reorders stores and the rings' release stores would mean nothing
//
// Refused, with the reason: block devices (their page cache is shared with nobody else), other
// devices, other PCI functions, device DAX that maps only in units above 2 MiB.
//
// Thread safety: none needed. Errors: WindowError.
#pragma once

#include <cstdint>
#include <string>

#include "window/mapping.h"
#include "window/unique_fd.h"

namespace shunt::window {

enum class BackingKind { kDirectory, kFile, kDeviceDax, kPciBar };
const char* kind_text(BackingKind kind);  // directory, file, device-dax, pci-bar

struct DeviceObject {
  BackingKind kind = BackingKind::kFile;
  Access access = Access::kReadWrite;
  UniqueFd fd;              // close-on-exec
  std::uint64_t base = 0;   // the window's offset 0 in the object
  std::uint64_t size = 0;   // bytes from there on
  std::uint64_t align = 0;  // what offsets and lengths of mappings must be multiples of
  std::string name;         // canonical; opens the same object from any directory

  // [offset, offset + bytes) of the window.
  Mapping map(std::uint64_t offset, std::uint64_t bytes, Access how) const;
  // A new open file description of the same object, so that locks on it are its own.
  UniqueFd fresh_descriptor() const;
};

// pci:..., /dev/dax..., or what exists and is no directory.
bool names_device(const std::string& spec);
// Without links and relative parts. A name that does not exist is made absolute only.
std::string canonical_name(const std::string& spec);

// Where the kernel shows its devices; tests show others.
struct DeviceTree {
  std::string sys = "/sys";
};
DeviceObject open_object(const std::string& spec, Access access, const DeviceTree& tree = {});

}  // namespace shunt::window
