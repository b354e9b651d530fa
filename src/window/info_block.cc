#include "window/info_block.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "window/error.h"

namespace shunt::window {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr off_t kAt = 4096;
constexpr std::array<char, 16> kSignature = {"NVDIMM_DAX_INFO"};
// Offsets in struct nd_pfn_sb (drivers/nvdimm/pfn.h), little-endian.
constexpr std::size_t kAtDataOffset = 56;
constexpr std::size_t kAtPages = 64;
constexpr std::size_t kAtStartPad = 76;

template <typename T>
T little_endian(const std::uint8_t* at) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) value |= static_cast<T>(T{at[i]} << (8 * i));
  return value;
}

}  // namespace

NamespaceData namespace_data(int fd, std::uint64_t file_bytes, const std::string& name) {
  std::array<std::uint8_t, 128> block{};
  if (::pread(fd, block.data(), block.size(), kAt) != static_cast<ssize_t>(block.size()) ||
      std::memcmp(block.data(), kSignature.data(), kSignature.size()) != 0) {
    return {0, file_bytes};
  }
  const auto offset = little_endian<std::uint64_t>(block.data() + kAtDataOffset);
  const auto pages = little_endian<std::uint64_t>(block.data() + kAtPages);
  const auto pad = little_endian<std::uint32_t>(block.data() + kAtStartPad);
  if (offset == 0 || offset >= file_bytes || pad >= file_bytes - offset ||
      (offset + pad) % kPage != 0) {
    throw WindowError(
        fmt::format("{} has an NVDIMM info block that is damaged: it says that the data begin at "
                    "offset {} of {}; make the namespace again in the guest",
                    name, offset, file_bytes));
  }
  const std::uint64_t rest = file_bytes - offset - pad;
  const bool ends_before = pages != 0 && pages < rest / kPage;
  return {offset + pad, ends_before ? pages * kPage : rest};
}

}  // namespace shunt::window
