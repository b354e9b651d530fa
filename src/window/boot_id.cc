#include "window/boot_id.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "window/unique_fd.h"

namespace shunt::window {

BootId boot_id() {
  BootId id{};
  const char* instead = std::getenv("SHUNT_TEST_BOOT_ID");
  if (instead != nullptr && *instead != '\0') {
    id[1] = std::strtoull(instead, nullptr, 16);
    return id;
  }
  // 36 characters: 32 hexadecimal digits with hyphens between them.
  char text[37] = {};
  const UniqueFd fd(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  if (!fd || ::read(fd.get(), text, 36) != 36) return id;
  std::size_t digits = 0;
  for (const char c : text) {
    if (c == '\0' || c == '-') continue;
    const char digit[2] = {c, '\0'};
    id[digits / 16] = id[digits / 16] << 4 | std::strtoull(digit, nullptr, 16);
    if (++digits == 32) break;
  }
  return id;
}

}  // namespace shunt::window
