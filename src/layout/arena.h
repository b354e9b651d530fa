// The shared-memory ABI of an arena: a sealed memory object with places for the areas of many connections.
//
// One process writes it (and those that it forks, each the places of its own connections), another one maps it for
// reading. With N places:
//
//   offset            size         what
//   0                  512         ArenaHeader
//   512                4 * N       released[N]: see below
//   controls_offset   3072 * N     controls of the places (layout/area.h)
//   first_offset     65536 * N     the first segment of place 0, of place 1, ...
//   rest_offset    4128768 * N     the 63 further segments of place 0, of place 1, ...
//
// controls_offset is 512 + 4 * N, rounded up to 1024; first_offset is the end of the controls, rounded up to a page.
// So an arena of one place needs one page while its connection is idle, controls of many share their pages, and
// connections that move little share pages of page tables, of which each covers 2 MiB.
//
// A place is used by one connection after another. Its owner gives it a new generation only when the other end, whose
// place is i in an arena of its own, says there that it has let go: released[i] = the generation of the area that it
// has read. It says that once its last holder has closed, and never looks at that area again.
//
// No behaviour lives here; sizes and offsets are asserted, and a golden-bytes test pins them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "layout/area.h"
#include "wire/arena_id.h"

namespace shunt::layout {

inline constexpr std::uint32_t kArenaMagic = 0x31524853;  // "SHR1" in memory
inline constexpr std::uint32_t kPlacesMax = 512;
inline constexpr std::uint32_t kKnownArenas = 8;

struct ArenaHeader {
  // Constant.
  std::uint32_t magic;
  std::uint16_t version;  // wire::kLayoutVersion
  std::uint16_t header_bytes;
  std::uint32_t places;  // 1 .. kPlacesMax
  std::uint32_t control_bytes;
  std::uint64_t arena_bytes;
  wire::ArenaId id;
  std::uint8_t reserved[88];
  // Arenas that the owner has mapped of those who answered this one: their answers need no descriptor any more.
  // Set once each, `low` last; zero: none.
  alignas(128) std::atomic<std::uint64_t> known[kKnownArenas][2];
  std::atomic<std::uint32_t> retired;  // 1: the owner gives no place here to a new connection
  std::uint8_t pad[252];
};
static_assert(sizeof(ArenaHeader) == 512);
static_assert(offsetof(ArenaHeader, known) == 128);
static_assert(offsetof(ArenaHeader, retired) == 256);

// Where everything is in an arena of `places`.
struct ArenaShape {
  std::uint32_t places;

  constexpr std::uint64_t controls_offset() const {
    return (sizeof(ArenaHeader) + 4 * std::uint64_t{places} + 1023) & ~std::uint64_t{1023};
  }
  constexpr std::uint64_t control_offset(std::uint32_t place) const {
    return controls_offset() + std::uint64_t{place} * sizeof(Area);
  }
  constexpr std::uint64_t first_offset(std::uint32_t place) const {
    return ((control_offset(places) + 4095) & ~std::uint64_t{4095}) +
           std::uint64_t{place} * kSegmentBytes;
  }
  constexpr std::uint64_t rest_offset(std::uint32_t place) const {
    return first_offset(places) + std::uint64_t{place} * (kStreamBytes - kSegmentBytes);
  }
  constexpr std::uint64_t bytes() const { return rest_offset(places); }
  constexpr bool sound() const { return places >= 1 && places <= kPlacesMax; }
};
static_assert(ArenaShape{1}.first_offset(0) == 4096 &&
              ArenaShape{1}.bytes() == 4096 + kStreamBytes);
static_assert(ArenaShape{1}.controls_offset() % alignof(Area) == 0);
static_assert(ArenaShape{kPlacesMax}.bytes() < std::uint64_t{1} << 32);

inline std::atomic<std::uint32_t>* released(ArenaHeader* arena) {
  return reinterpret_cast<std::atomic<std::uint32_t>*>(arena + 1);
}
inline const std::atomic<std::uint32_t>* released(const ArenaHeader* arena) {
  return reinterpret_cast<const std::atomic<std::uint32_t>*>(arena + 1);
}

}  // namespace shunt::layout
