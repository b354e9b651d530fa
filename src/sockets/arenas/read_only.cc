#include "sockets/arenas/read_only.h"

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

}  // namespace shunt::sockets
