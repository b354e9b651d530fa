// CRC-32C (Castagnoli), as iSCSI and ext4 use it. Pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace shunt::window {

namespace detail {
constexpr std::array<std::uint32_t, 256> crc32c_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = (c & 1) != 0 ? c >> 1 ^ 0x82f63b78u : c >> 1;
    table[i] = c;
  }
  return table;
}
inline constexpr std::array<std::uint32_t, 256> kCrc32cTable = crc32c_table();
}  // namespace detail

// `before`: of the bytes in front of these, 0 for none.
constexpr std::uint32_t crc32c(const std::uint8_t* bytes, std::size_t size,
                               std::uint32_t before = 0) {
  std::uint32_t c = ~before;
  for (std::size_t i = 0; i < size; ++i) {
    c = c >> 8 ^ detail::kCrc32cTable[(c ^ bytes[i]) & 0xff];
  }
  return ~c;
}

inline constexpr std::uint8_t kCrc32cCheck[] = {'1', '2', '3', '4', '5', '6', '7', '8', '9'};
static_assert(crc32c(kCrc32cCheck, sizeof kCrc32cCheck) == 0xe3069283u);

}  // namespace shunt::window
