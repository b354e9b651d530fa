#include "window/fault_guard.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>

namespace shunt::window {
namespace {

struct Guarded {
  std::atomic<std::uintptr_t> begin{0};  // 0: free
  std::atomic<std::uintptr_t> end{0};
};

std::array<Guarded, kGuardedMappings> guarded;
std::mutex guarded_change;
struct sigaction previous;

bool is_guarded(std::uintptr_t address) {
  for (const Guarded& g : guarded) {
    // Acquire pairs with guard_mapping's release: `end` belongs to this `begin`.
    const std::uintptr_t begin = g.begin.load(std::memory_order_acquire);
    if (begin != 0 && address >= begin && address < g.end.load(std::memory_order_relaxed)) {
      return true;
    }
  }
  return false;
}

void on_bus_error(int, siginfo_t* info, void*) {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  if (is_guarded(address)) {
    void* at = reinterpret_cast<void*>(address & ~(page - 1));
    // Writable, because an owner whose own section was truncated by somebody goes on too.
    void* zeros =
        ::mmap(at, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (zeros != MAP_FAILED) return;
  }
  ::sigaction(SIGBUS, &previous, nullptr);  // the instruction runs again and meets the usual effect
}

}  // namespace

void guard_mapping(void* memory, std::size_t bytes) {
  const std::lock_guard lock(guarded_change);
  static const bool installed = [] {
    struct sigaction action {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    ::sigemptyset(&action.sa_mask);
    return ::sigaction(SIGBUS, &action, &previous) == 0;
  }();
  if (!installed) return;
  for (Guarded& g : guarded) {
    if (g.begin.load(std::memory_order_relaxed) != 0) continue;
    const auto begin = reinterpret_cast<std::uintptr_t>(memory);
    g.end.store(begin + bytes, std::memory_order_relaxed);
    g.begin.store(begin, std::memory_order_release);  // pairs with is_guarded
    return;
  }
}

void unguard_mapping(void* memory) {
  const std::lock_guard lock(guarded_change);
  const auto begin = reinterpret_cast<std::uintptr_t>(memory);
  for (Guarded& g : guarded) {
    if (g.begin.load(std::memory_order_relaxed) == begin) {
      g.begin.store(0, std::memory_order_release);
      return;
    }
  }
}

}  // namespace shunt::window
