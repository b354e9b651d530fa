// Mapping: one shared mapping of a window's memory, guarded (fault_guard.h), unmapped on
// destruction.
//
// A mapping keeps its open file description, and with it the description's record locks, until it
// is unmapped, also after the descriptor was closed.
//
// Thread safety: none needed. Errors: WindowError that names `what`.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

namespace shunt::window {

enum class Access { kReadOnly, kReadWrite };

class Mapping {
 public:
  Mapping() = default;
  Mapping(int fd, std::uint64_t offset, std::uint64_t bytes, Access access,
          const std::string& what);
  Mapping(Mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Mapping();

  std::uint8_t* data() const { return data_; }
  std::uint64_t bytes() const { return bytes_; }

  // From now on what is read and written here is private memory, zero at first: for a writer that has lost its
  // place and still has to come to an end. Ends the process if the system has no room for that.
  void cut_off();

 private:
  std::uint8_t* data_ = nullptr;
  std::uint64_t bytes_ = 0;
};

}  // namespace shunt::window
