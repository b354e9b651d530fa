// Whether an area still belongs to the connection that reads it.
//
// A range of a window's device is given to one connection after another. Who gives it out (window/arena.h) does so
// only when nobody reads it any more, as far as he knows; but a kernel that stood still can be taken for dead, and
// its programs go on reading when it comes back. So bytes are copied out of a peer's area first, then this looks
// whether the area was the connection's all the time, and only then the bytes are used.
//
// Thread safety: any thread. Pairs with init_area(), which clears both generation words before it changes anything
// else. The line it reads is constant while the area is in use and was read before: no transfer.
#pragma once

#include <atomic>
#include <cstdint>

#include "layout/area.h"

namespace shunt::ring {

inline bool still_current(const layout::Area* area, std::uint32_t generation) {
  // Acquire: the copies are done before the look; pairs with the fence behind init_area's zeros.
#if defined(__SANITIZE_THREAD__)
  // It does not model fences; what keeps the compiler's order is enough on the processors that it runs on.
  std::atomic_signal_fence(std::memory_order_acquire);
#else
  std::atomic_thread_fence(std::memory_order_acquire);
#endif
  return __atomic_load_n(&area->header.generation, __ATOMIC_RELAXED) == generation;
}

}  // namespace shunt::ring
