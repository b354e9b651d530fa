#include "sockets/bell/sleep.h"

#include <poll.h>

#include <cerrno>

#include "base/trace.h"
#include "sockets/connection/idle_memory.h"
#include "sockets/thread/cancel.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {
constexpr std::uint32_t kYields = 64;
constexpr std::uint32_t kForceAfter = 256;
constexpr timespec kShortPause{0, 1'000'000};
}  // namespace

void VainWakes::another() {
  // A ring stays on the bell until every sleeper has had the chance to see it. Normally the other
  // sleeper is awake already and needs the CPU; only a killed one leaves the ring there for ever.
  ++count;
  if (count < 4) return;
  if (count < kYields) {
    sys::sched_yield();
  } else if (count < kForceAfter) {
    sys::raw(SYS_nanosleep, sys::arg(&kShortPause), 0);
  }
  force = count >= kForceAfter;
  if (force) count = kYields;
}

namespace {

long wait_for_events(int fd, short events, std::int64_t deadline_ns) {
  timespec left{};
  if (deadline_ns != 0) {
    const std::int64_t ns = deadline_ns - sys::monotonic_ns();
    if (ns <= 0) return -EAGAIN;
    left = sys::timespec_of(ns);
  }
  pollfd p{fd, events, 0};
  int r = 0;
  {
    const CancelPoint point;
    r = sys::ppoll(&p, 1, deadline_ns != 0 ? &left : nullptr, nullptr);
  }
  return r < 0 ? r : r == 0 ? -EAGAIN : 0;
}

long wait_for_ring(int fd, std::int64_t deadline_ns) {
  if (deadline_ns == 0) {
    // The kernel's own receive: EINTR or a restart, as the program's SA_RESTART says. A socket that
    // another thread made non-blocking meanwhile answers EAGAIN: wait with poll then.
    std::uint8_t byte;
    long r = 0;
    {
      const CancelPoint point;
      r = sys::recv(fd, &byte, 1, MSG_PEEK);
    }
    if (r == -EINTR) return -EINTR;
    if (r != -EAGAIN) return 0;
  }
  return wait_for_events(fd, POLLIN, deadline_ns);
}

}  // namespace

long poll_bell(int fd, short events, std::int64_t deadline_ns) {
  SHUNT_TRACE(sleep, fd, deadline_ns);
  const long r = wait_for_events(fd, events, deadline_ns);
  SHUNT_TRACE(wake, fd, r);
  return r;
}

long sleep_on_bell(int fd, std::int64_t deadline_ns) {
  trim_idle();
  SHUNT_TRACE(sleep, fd, deadline_ns);
  const long r = wait_for_ring(fd, deadline_ns);
  SHUNT_TRACE(wake, fd, r);
  return r;
}

}  // namespace shunt::sockets
