// The program's buffers, as readv() and writev() have them.
#pragma once

#include <sys/uio.h>

#include <cstddef>

namespace shunt::sockets {

inline std::size_t total_size(const iovec* parts, std::size_t count) {
  std::size_t size = 0;
  for (std::size_t i = 0; i < count; ++i) size += parts[i].iov_len;
  return size;
}

}  // namespace shunt::sockets
