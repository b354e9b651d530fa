// The info block of an NVDIMM namespace, as the host sees it at the beginning of the NVDIMM's file.
//
// A guest that makes a namespace device DAX leaves the kernel's struct nd_pfn_sb at offset 4096:
// the device's data begin behind it, and may end before the file does (labels).
//
// Thread safety: pure but for reading the file. Errors: WindowError for a damaged block.
#pragma once

#include <cstdint>
#include <string>

namespace shunt::window {

struct NamespaceData {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};
// All of the file where there is no info block. `name` is for messages.
NamespaceData namespace_data(int fd, std::uint64_t file_bytes, const std::string& name);

}  // namespace shunt::window
