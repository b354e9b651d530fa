// A table's slots for own arenas: each holds one or none, is read without a lock, and changes with ArenasLocked.
#pragma once

#include <atomic>
#include <cstddef>

#include "sockets/arenas/arena.h"

namespace shunt::sockets {

// The arena that `wanted` says yes to, held once more. nullptr: none.
template <std::size_t N, typename Wanted>
Arena* find_held(const std::atomic<Arena*> (&slots)[N], Wanted wanted) {
  for (const std::atomic<Arena*>& slot : slots) {
    Arena* a = slot.load(std::memory_order_acquire);
    if (a == nullptr || !hold_if_alive(a)) continue;
    // Held, and still there: it is what it was.
    if (slot.load(std::memory_order_acquire) == a && wanted(a)) return a;
    drop(a);
  }
  return nullptr;
}

// Empties the slot: no new connection gets a place of what was there.
inline void give_up(std::atomic<Arena*>& slot) {
  Arena* a = slot.exchange(nullptr, std::memory_order_acq_rel);
  if (a == nullptr) return;
  retire(a);
  drop(a);
}

}  // namespace shunt::sockets
