#include "window/mapping.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdlib>
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

void Mapping::cut_off() {
  void* memory = ::mmap(data_, bytes_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  if (memory == MAP_FAILED) std::abort();
}

Mapping::~Mapping() {
  if (data_ == nullptr) return;
  unguard_mapping(data_);
  ::munmap(data_, bytes_);
}

}  // namespace shunt::window
