// Versions of the protocol and of the memory layout. Both are part of the rendezvous name and of the
// partition table, so two versions of Shunt never meet: they use kernel TCP with each other.
#pragma once

#include <cstdint>

namespace shunt::wire {

inline constexpr std::uint16_t kWireVersion = 3;  // messages, partition table
inline constexpr std::uint16_t kLayoutVersion =
    4;  // areas, arenas, sections, devices, status pages

}  // namespace shunt::wire
