#include "sockets/thread/signals.h"

#include <algorithm>
#include <cerrno>

#include "sockets/thread/cancel.h"
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

constexpr int kBeingKept = -1;

}  // namespace

SignalsHeld::SignalsHeld() {
  const std::uint64_t all = ~std::uint64_t{0};
  sys::sigprocmask(SIG_BLOCK, &all, &blocked_);
}

SignalsHeld::~SignalsHeld() { sys::sigprocmask(SIG_SETMASK, &blocked_, nullptr); }

SignalsHeld::Arrived SignalsHeld::arrived() const {
  std::uint64_t pending = 0;
  sys::raw(SYS_rt_sigpending, sys::arg(&pending), sys::kKernelSigsetBytes);
  pending &= let_through();
  Arrived result = Arrived::kNone;
  for (int signal = 1; pending != 0 && signal <= 64; ++signal) {
    if ((pending >> (signal - 1) & 1) == 0) continue;
    KernelSigaction action{};
    if (sys::raw(SYS_rt_sigaction, signal, 0, sys::arg(&action), sys::kKernelSigsetBytes) != 0 ||
        action.handler <= 1) {
      continue;
    }
    if ((action.flags & SA_RESTART) == 0) return Arrived::kEnds;
    result = Arrived::kRestarts;
  }
  return result;
}

int SignalWatch::take(std::uint64_t watched) {
  int fd = fd_.load(std::memory_order_relaxed);
  // Kept apart while the mask is read: it is whose the descriptor is.
  while (fd > 0 && !fd_.compare_exchange_weak(fd, kBeingKept, std::memory_order_acquire)) {
  }
  if (fd > 0) {
    const bool same = watched_ == watched;
    fd_.store(0, std::memory_order_release);
    if (same) return fd;
  }
  const long made = sys::raw(SYS_signalfd4, fd > 0 ? fd : -1, sys::arg(&watched),
                             sys::kKernelSigsetBytes, O_CLOEXEC | O_NONBLOCK);
  if (fd > 0 || made < 0) return static_cast<int>(made);
  const int high = sys::move_high(static_cast<int>(made));
  int none = 0;
  number_.compare_exchange_strong(none, high, std::memory_order_relaxed);
  return high;
}

void SignalWatch::give_back(int fd, std::uint64_t watched) {
  int none = 0;
  if (fd < 0) return;
  // One is kept, and known by its number to those who must not close it.
  if (number_.load(std::memory_order_relaxed) == fd &&
      fd_.compare_exchange_strong(none, kBeingKept, std::memory_order_acquire)) {
    watched_ = watched;
    fd_.store(fd, std::memory_order_release);
  } else {
    sys::close(fd);
  }
}

void SignalWatch::close() {
  const int fd = fd_.exchange(0, std::memory_order_acquire);
  number_.store(0, std::memory_order_relaxed);
  if (fd > 0) sys::close(fd);
}

long wait_readable_restarting(int fd, std::int64_t timeout_ns, SignalWatch* watch) {
  const std::int64_t deadline = timeout_ns > 0 ? sys::monotonic_ns() + timeout_ns : 0;
  // Its signal is held back with the others, and acts when nothing is held here.
  const CancelPoint point;
  for (;;) {
    int signals = -1;
    int r = 0;
    pollfd p[2] = {};
    auto arrived = SignalsHeld::Arrived::kNone;
    {
      const SignalsHeld held;
      const std::uint64_t watched = held.let_through();
      signals = watch->take(watched);
      timespec left{};
      if (deadline != 0) {
        left = sys::timespec_of(std::max<std::int64_t>(0, deadline - sys::monotonic_ns()));
      }
      p[0] = {fd, POLLIN, 0};
      p[1] = {signals, POLLIN, 0};
      // No descriptor left for watching the signals: then let them in, and every handler ends the wait.
      const std::uint64_t blocked = ~watched;
      const auto* mask = signals < 0 ? reinterpret_cast<const sigset_t*>(&blocked) : nullptr;
      r = sys::ppoll(p, 2, deadline != 0 ? &left : nullptr, mask);
      if (r > 0 && p[1].revents != 0) arrived = held.arrived();
      watch->give_back(signals, watched);
    }
    if (r > 0 && p[0].revents != 0) return 0;
    if (r == 0) return -EAGAIN;
    const bool ends = arrived == SignalsHeld::Arrived::kEnds ||
                      (arrived == SignalsHeld::Arrived::kRestarts && deadline != 0);
    if (ends || (signals < 0 && r == -EINTR)) return -EINTR;
  }
}

std::int64_t receive_timeout_ns(int fd) {
  timeval tv{};
  socklen_t length = sizeof tv;
  if (sys::getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, &length) != 0) return 0;
  return tv.tv_sec * std::int64_t{1'000'000'000} + tv.tv_usec * std::int64_t{1000};
}

}  // namespace shunt::sockets
