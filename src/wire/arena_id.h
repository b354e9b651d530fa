// The name of an arena (layout/arena.h), in its header and in the messages that name a place in it.
#pragma once

#include <cstdint>

namespace shunt::wire {

// 128 random bits; never zero. Who has not been told it cannot guess it.
struct ArenaId {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  friend bool operator==(const ArenaId&, const ArenaId&) = default;
  bool none() const { return high == 0 && low == 0; }
};

}  // namespace shunt::wire
