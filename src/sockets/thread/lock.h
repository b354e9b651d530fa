// A lock that lives in memory shared by a process and its forked children.
//
// The word holds the owner's thread id, so that (1) a signal handler that interrupts its own thread
// inside the critical section is recognised instead of deadlocking, and (2) the lock of a killed
// process is taken over; recovered() says so from then on, because what it guards may be half
// changed. Critical sections are short and never sleep.
//
// Async-signal-safe. Zero-initialised memory is an unlocked lock.
#pragma once

#include <atomic>
#include <cassert>
#include <cstdint>

namespace shunt::sockets {

// The calling thread's id, cached. forget_thread_id() after fork, in the child.
std::uint32_t thread_id();
void forget_thread_id();

class Lock {
 public:
  // False: this very thread holds it already, further down its stack (we are in a signal handler).
  bool acquire() {
    std::uint32_t expected = 0;
    // Acquire: pairs with release() of the former owner.
    if (word_.compare_exchange_strong(expected, thread_id(), std::memory_order_acquire,
                                      std::memory_order_relaxed)) {
      return true;
    }
    return acquire_contended();
  }
  bool try_acquire() {
    std::uint32_t expected = 0;
    return word_.compare_exchange_strong(expected, thread_id(), std::memory_order_acquire,
                                         std::memory_order_relaxed);
  }
  void release() {
    assert(held_by_me());
    if ((word_.exchange(0, std::memory_order_release) & kWaiters) != 0) wake();
  }
  // In the child of a fork, for locks in private memory: whoever held it does not exist here.
  void reset_after_fork() { word_.store(0, std::memory_order_relaxed); }
  void forget_recovery() { recovered_.store(0, std::memory_order_relaxed); }
  // For assertions: the calling thread is inside, perhaps further down its stack.
  bool held_by_me() const {
    return (word_.load(std::memory_order_relaxed) & ~kWaiters) == thread_id();
  }
  bool recovered() const { return recovered_.load(std::memory_order_relaxed) != 0; }

 private:
  static constexpr std::uint32_t kWaiters = 1u << 31;
  bool acquire_contended();
  void wake();

  std::atomic<std::uint32_t> word_{0};
  std::atomic<std::uint32_t> recovered_{0};
};

// Holds a lock for a scope; `owns()` is false when the thread had it already.
class Hold {
 public:
  explicit Hold(Lock& lock) : lock_(lock), owns_(lock.acquire()) {}
  ~Hold() {
    if (owns_) lock_.release();
  }
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;
  bool owns() const { return owns_; }

 private:
  Lock& lock_;
  bool owns_;
};

// Blocks every signal for a scope: slow paths (set-up, tables) are not re-entered by handlers.
class SignalsBlocked {
 public:
  SignalsBlocked();
  ~SignalsBlocked();
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  std::uint64_t old_;
};

}  // namespace shunt::sockets
