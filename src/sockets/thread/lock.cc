#include "sockets/thread/lock.h"

#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

thread_local std::uint32_t cached_thread_id __attribute__((tls_model("initial-exec"))) = 0;

constexpr int kSpins = 200;
constexpr timespec kRecheck{0, 20'000'000};  // how long a dead owner can go unnoticed

}  // namespace

std::uint32_t thread_id() {
  if (cached_thread_id == 0) cached_thread_id = static_cast<std::uint32_t>(sys::gettid());
  return cached_thread_id;
}

void forget_thread_id() { cached_thread_id = 0; }

bool Lock::acquire_contended() {
  const std::uint32_t me = thread_id();
  for (int i = 0;; ++i) {
    std::uint32_t seen = word_.load(std::memory_order_relaxed);
    if (seen == 0) {
      // With the waiters bit set from here on: others may sleep behind us.
      const std::uint32_t mine = i < kSpins ? me : me | kWaiters;
      if (word_.compare_exchange_weak(seen, mine, std::memory_order_acquire,
                                      std::memory_order_relaxed)) {
        return true;
      }
      continue;
    }
    if ((seen & ~kWaiters) == me) return false;
    if (i < kSpins) {
      __builtin_ia32_pause();
      continue;
    }
    if ((seen & kWaiters) == 0 &&
        !word_.compare_exchange_weak(seen, seen | kWaiters, std::memory_order_relaxed,
                                     std::memory_order_relaxed)) {
      continue;
    }
    const long r =
        sys::futex_wait(reinterpret_cast<std::uint32_t*>(&word_), seen | kWaiters, &kRecheck);
    if (r == -110 /* ETIMEDOUT */ && !sys::thread_exists(static_cast<int>(seen & ~kWaiters))) {
      // The owner was killed inside.
      std::uint32_t dead = seen | kWaiters;
      if (word_.compare_exchange_strong(dead, me | kWaiters, std::memory_order_acquire,
                                        std::memory_order_relaxed)) {
        recovered_.store(1, std::memory_order_relaxed);
        return true;
      }
    }
  }
}

void Lock::wake() { sys::futex_wake(reinterpret_cast<std::uint32_t*>(&word_), 1); }

SignalsBlocked::SignalsBlocked() : old_(0) {
  const std::uint64_t all = ~std::uint64_t{0};
  sys::sigprocmask(SIG_BLOCK, &all, &old_);
}

SignalsBlocked::~SignalsBlocked() { sys::sigprocmask(SIG_SETMASK, &old_, nullptr); }

}  // namespace shunt::sockets
