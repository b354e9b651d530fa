#include "preload/libc.h"

#include <dlfcn.h>
#include <errno.h>

#include <atomic>

namespace shunt::preload {
namespace {

Libc table;
std::atomic<bool> resolved{false};

void resolve() {
  const int saved = errno;
  // Idempotent: two threads that come first write the same pointers.
#define SHUNT_RESOLVE(name) \
  table.name = reinterpret_cast<decltype(table.name)>(dlsym(RTLD_NEXT, #name));
  SHUNT_LIBC_FUNCTIONS(SHUNT_RESOLVE)
#undef SHUNT_RESOLVE
  resolved.store(true, std::memory_order_release);
  errno = saved;
}

}  // namespace

const Libc& libc() {
  if (!resolved.load(std::memory_order_acquire)) resolve();
  return table;
}

}  // namespace shunt::preload
