#include "sockets/process/identity.h"

#include <atomic>

#include "sys/kernel.h"

namespace shunt::sockets {
namespace {
int process_id = 0;

// How often it was forgotten, above; the user or kUnknown, below: who asks while somebody changes it does not remember
// the answer.
constexpr std::uint32_t kUnknown = ~std::uint32_t{0};
std::atomic<std::uint64_t> user{kUnknown};
}  // namespace

std::uint32_t own_user() {
  std::uint64_t seen = user.load(std::memory_order_relaxed);
  if (static_cast<std::uint32_t>(seen) != kUnknown) return static_cast<std::uint32_t>(seen);
  const std::uint32_t asked = sys::geteuid();
  user.compare_exchange_strong(seen, (seen & ~std::uint64_t{kUnknown}) | asked,
                               std::memory_order_relaxed);
  return asked;
}

void forget_user() {
  std::uint64_t seen = user.load(std::memory_order_relaxed);
  while (!user.compare_exchange_weak(seen, ((seen >> 32) + 1) << 32 | kUnknown,
                                     std::memory_order_relaxed)) {
  }
}

void remember_process() { process_id = sys::getpid(); }

bool in_vfork_child() { return process_id != 0 && sys::getpid() != process_id; }

}  // namespace shunt::sockets
