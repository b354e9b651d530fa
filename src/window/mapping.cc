#include "window/mapping.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "window/error.h"
#include "window/fault_guard.h"

namespace shunt::window {

Mapping::Mapping(int fd, std::uint64_t offset, std::uint64_t bytes, Access access,
                 const std::string& what)
    : bytes_(bytes) {
  const int protection = access == Access::kReadWrite ? PROT_READ | PROT_WRITE : PROT_READ;
  void* memory = ::mmap(nullptr, bytes, protection, MAP_SHARED, fd, static_cast<off_t>(offset));
  if (memory == MAP_FAILED) {
    throw WindowError(fmt::format("cannot map {}: {}", what, std::strerror(errno)));
  }
  data_ = static_cast<std::uint8_t*>(memory);
  guard_mapping(memory, bytes);
}

Mapping::~Mapping() {
  if (data_ == nullptr) return;
  unguard_mapping(data_);
  ::munmap(data_, bytes_);
}

}  // namespace shunt::window
