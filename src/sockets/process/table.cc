#include "sockets/process/table.h"

#include <atomic>
#include <cstddef>

#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

// Reserved address space, touched only where descriptors are used: 8 bytes each.
constexpr int kTableEntries = 1 << 20;

std::atomic<std::atomic<Socket*>*> table{nullptr};
std::atomic<int> limit{0};

std::atomic<Socket*>* entries() {
  std::atomic<Socket*>* t = table.load(std::memory_order_acquire);
  if (t != nullptr) return t;
  void* memory =
      sys::mmap(nullptr, sizeof(std::atomic<Socket*>) * kTableEntries, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == nullptr) return nullptr;
  auto* fresh = static_cast<std::atomic<Socket*>*>(memory);
  if (table.compare_exchange_strong(t, fresh, std::memory_order_acq_rel)) return fresh;
  sys::munmap(memory, sizeof(std::atomic<Socket*>) * kTableEntries);
  return t;
}

}  // namespace

Socket* lookup(int fd) {
  if (static_cast<unsigned>(fd) >= static_cast<unsigned>(limit.load(std::memory_order_relaxed))) {
    return nullptr;
  }
  std::atomic<Socket*>* t = table.load(std::memory_order_acquire);
  return t[fd].load(std::memory_order_acquire);
}

bool fits_in_table(int fd) { return fd >= 0 && fd < kTableEntries && entries() != nullptr; }

bool put_in_table(int fd, Socket* socket, Socket** stale) {
  if (!fits_in_table(fd)) return false;
  int seen = limit.load(std::memory_order_relaxed);
  while (seen <= fd && !limit.compare_exchange_weak(seen, fd + 1, std::memory_order_release)) {
  }
  *stale = entries()[fd].exchange(socket, std::memory_order_acq_rel);
  return true;
}

Socket* take_out(int fd) {
  if (lookup(fd) == nullptr) return nullptr;
  return table.load(std::memory_order_relaxed)[fd].exchange(nullptr, std::memory_order_acq_rel);
}

int next_descriptor(const Socket* socket, int from, int except) {
  const int end = limit.load(std::memory_order_relaxed);
  for (int fd = from; fd < end; ++fd) {
    if (fd != except && lookup(fd) == socket) return fd;
  }
  return -1;
}

int table_limit() { return limit.load(std::memory_order_relaxed); }

void for_each(void (*visit)(int, Socket*, void*), void* context, int first, int last) {
  const int end = limit.load(std::memory_order_relaxed);
  for (int fd = first < 0 ? 0 : first; fd < end && fd <= last; ++fd) {
    if (Socket* s = lookup(fd)) visit(fd, s, context);
  }
}

}  // namespace shunt::sockets
