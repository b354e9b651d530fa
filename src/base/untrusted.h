// Untrusted<T>: a place in memory that another partition can write at any time.
//
// The only way to its value is one load into a local (`copy`), so that what was checked is what is
// used. There is no reference, no implicit conversion and no store: we never write a peer's memory.
//
// Thread safety: `copy` is a single relaxed or acquire load; T must be lock-free atomic.
#pragma once

#include <atomic>
#include <type_traits>

namespace shunt {

template <typename T>
class Untrusted {
 public:
  static_assert(std::is_trivially_copyable_v<T>);
  static_assert(std::atomic<T>::is_always_lock_free);

  explicit Untrusted(const std::atomic<T>& place) : place_(&place) {}

  // One copy, no ordering: for values whose visibility an earlier copy_acquire established.
  T copy() const { return place_->load(std::memory_order_relaxed); }
  // One copy that pairs with the peer's release store of the same word.
  T copy_acquire() const { return place_->load(std::memory_order_acquire); }

 private:
  const std::atomic<T>* place_;
};

}  // namespace shunt
