// A file that is open for reading, and reads at offsets. Owns the descriptor.
//
// Opens without blocking and without becoming anybody's terminal, so that a name which turns out to
// be a FIFO or a device does no harm. Thread safety: reads may run side by side.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "window/unique_fd.h"

namespace shunt::cli {

class File {
 public:
  explicit File(const std::string& path);
  explicit File(int fd) : fd_(fd) {}  // takes it over; negative: none

  bool ok() const { return fd_.valid(); }
  int fd() const { return fd_.get(); }

  // How many bytes were there (0 on error).
  std::size_t read_some(std::uint64_t offset, void* to, std::size_t size) const;
  // All of them, or false.
  bool read_at(std::uint64_t offset, void* to, std::size_t size) const;
  // The whole of a small file (such as those of /proc), cut at `limit` bytes.
  std::string read_all(std::size_t limit) const;

 private:
  window::UniqueFd fd_;
};

}  // namespace shunt::cli
