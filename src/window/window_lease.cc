#include "window/window_lease.h"

#include <fcntl.h>

#include <cerrno>
#include <cstdio>

namespace shunt::window {
namespace {

struct flock lock_byte(const LeasePlace& place, std::uint64_t window_offset, short type) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(place.base + window_offset + place.number);
  lock.l_len = 1;
  return lock;
}

}  // namespace

UniqueFd lease(const LeasePlace& place, std::span<const std::uint64_t> window_offsets) {
  // By the descriptor and not by name: always the object that leased() asks about.
  char path[32];
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", place.device);
  UniqueFd fd(::open(path, O_RDWR | O_CLOEXEC));
  if (!fd) return {};
  for (const std::uint64_t offset : window_offsets) {
    struct flock lock = lock_byte(place, offset, F_RDLCK);
    if (::fcntl(fd.get(), F_OFD_SETLK, &lock) != 0) {
      const int error = errno;
      fd.reset();
      errno = error;
      return {};
    }
  }
  return fd;
}

bool leased(const LeasePlace& place, std::uint64_t window_offset) {
  struct flock lock = lock_byte(place, window_offset, F_WRLCK);  // conflicts with every lease
  if (::fcntl(place.device, F_OFD_GETLK, &lock) != 0) return true;
  return lock.l_type != F_UNLCK;
}

}  // namespace shunt::window
