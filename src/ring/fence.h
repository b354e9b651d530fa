// The one full fence of the wake-up protocol.
//
// "Announce that I sleep, then look at the data" on one side and "publish data, then look whether
// the other sleeps" on the other are store-then-load pairs: without a full fence on both sides each
// may miss the other's store (store buffering) and nobody wakes up.
#pragma once

#include <atomic>

namespace shunt::ring {

inline void full_fence() {
#if defined(__SANITIZE_THREAD__)
  // The thread sanitizer does not model fences; an atomic read-modify-write is as strong here.
  static std::atomic<int> place{0};
  place.fetch_add(0, std::memory_order_seq_cst);
#else
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

}  // namespace shunt::ring
