#include "sockets/arenas/memory_object.h"

#include <linux/magic.h>

#include "sys/kernel.h"

namespace shunt::sockets {

int open_read_only(int fd) {
  char path[32] = "/proc/self/fd/";
  char digits[12];
  int count = 0;
  auto n = static_cast<unsigned>(fd);
  do {
    digits[count++] = static_cast<char>('0' + n % 10);
    n /= 10;
  } while (n != 0);
  int at = 14;
  while (count > 0) path[at++] = digits[--count];
  path[at] = '\0';
  const int read_only = sys::open(path, O_RDONLY | O_CLOEXEC);
  if (read_only < 0) return fd;
  sys::close(fd);
  return read_only;
}

bool is_sealed_object(int fd, std::uint64_t bytes) {
  constexpr int kNeeded = F_SEAL_SHRINK | F_SEAL_GROW;
  const int seals = sys::fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & kNeeded) != kNeeded) return false;
  struct stat st;
  struct statfs fs;
  return sys::fstat(fd, &st) == 0 && static_cast<std::uint64_t>(st.st_size) == bytes &&
         sys::fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

}  // namespace shunt::sockets
