#include "sockets/restart.h"

#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

// The kernel's own struct sigaction on x86-64.
struct KernelSigaction {
  std::uint64_t handler;  // 0: SIG_DFL, 1: SIG_IGN
  std::uint64_t flags;
  std::uint64_t restorer;
  std::uint64_t mask;
};

}  // namespace

bool all_handlers_restart() {
  for (int signal = 1; signal <= 64; ++signal) {
    KernelSigaction action{};
    if (sys::raw(SYS_rt_sigaction, signal, 0, sys::arg(&action), sys::kKernelSigsetBytes) != 0) {
      continue;
    }
    if (action.handler > 1 && (action.flags & SA_RESTART) == 0) return false;
  }
  return true;
}

std::int64_t receive_timeout_ns(int fd) {
  timeval tv{};
  socklen_t length = sizeof tv;
  if (sys::getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, &length) != 0) return 0;
  return tv.tv_sec * std::int64_t{1'000'000'000} + tv.tv_usec * std::int64_t{1000};
}

}  // namespace shunt::sockets
