#include "window/device_contents.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "window/error.h"

namespace shunt::window {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kWhole = 16 * kMiB;  // of a device, from its beginning
constexpr std::uint64_t kEach = 2 * kMiB;    // behind that: a page of each
constexpr std::uint64_t kPage = 4096;

bool all_zero(const std::uint8_t* at, std::uint64_t bytes) {
  return bytes == 0 || (at[0] == 0 && std::memcmp(at, at + 1, bytes - 1) == 0);
}

std::optional<std::uint64_t> something_in_file(const DeviceObject& object) {
  std::vector<std::uint8_t> chunk(kMiB);
  const auto end = static_cast<off_t>(object.base + object.size);
  auto at = static_cast<off_t>(object.base);
  while (at < end) {
    const off_t data = ::lseek(object.fd.get(), at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) return std::nullopt;  // nothing but a hole from here on
    at = data >= 0 ? data : at;                           // without holes, all is data
    if (at >= end) return std::nullopt;
    const auto want = std::min<std::uint64_t>(chunk.size(), static_cast<std::uint64_t>(end - at));
    const ssize_t n = ::pread(object.fd.get(), chunk.data(), want, at);
    if (n < 0) {
      throw WindowError(fmt::format("cannot read {}: {}", object.name, std::strerror(errno)));
    }
    if (n == 0) return std::nullopt;
    if (!all_zero(chunk.data(), static_cast<std::uint64_t>(n))) {
      return static_cast<std::uint64_t>(at) - object.base;
    }
    at += n;
  }
  return std::nullopt;
}

std::optional<std::uint64_t> something_on_device(const DeviceObject& object) {
  for (std::uint64_t at = 0; at + kEach <= object.size; at += kEach) {
    const Mapping part = object.map(at, kEach, Access::kReadOnly);
    if (!all_zero(part.data(), at < kWhole ? kEach : kPage)) return at;
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::uint64_t> something_at(const DeviceObject& object) {
  return object.kind == BackingKind::kFile ? something_in_file(object)
                                           : something_on_device(object);
}

}  // namespace shunt::window
