// Which kernel is this? SectionLife::boot_id says it of the driver that writes a section.
//
// SHUNT_TEST_BOOT_ID in the environment (up to 16 hexadecimal digits) replaces it: two drivers on
// one kernel can so take each other for drivers of two. For tests.
//
// Thread safety: reads the environment. Errors: {0, 0}, which is no kernel's.
#pragma once

#include <array>
#include <cstdint>

namespace shunt::window {

using BootId = std::array<std::uint64_t, 2>;
BootId boot_id();

}  // namespace shunt::window
