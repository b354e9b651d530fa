#include "cli/file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace shunt::cli {

File::File(const std::string& path)
    : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)) {}

std::size_t File::read_some(std::uint64_t offset, void* to, std::size_t size) const {
  std::size_t done = 0;
  while (done < size) {
    const ssize_t n = ::pread(fd_.get(), static_cast<char*>(to) + done, size - done,
                              static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    done += static_cast<std::size_t>(n);
  }
  return done;
}

bool File::read_at(std::uint64_t offset, void* to, std::size_t size) const {
  return read_some(offset, to, size) == size;
}

std::string File::read_all(std::size_t limit) const {
  std::string text(limit, '\0');
  text.resize(read_some(0, text.data(), limit));
  return text;
}

}  // namespace shunt::cli
