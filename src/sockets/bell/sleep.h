// Sleeping on a bell until the peer rings, and how to go on after a wake-up for nothing.
//
// Thread safety: any number of threads. With no lock held, between enter_sleep() and leave_sleep() of bell.h.
#pragma once

#include <cstdint>

namespace shunt::sockets {

// A cancellation point (thread/cancel.h). Sleeps once on the bell. deadline_ns: monotonic, 0: none. 0: woken
// (or worth another look); -EINTR; -EAGAIN: the deadline has passed.
long sleep_on_bell(int fd, std::int64_t deadline_ns);

// A cancellation point. Waits until the bell shows `events`; deadline and results as above.
long poll_bell(int fd, short events, std::int64_t deadline_ns);

// How often a sleeper was woken for nothing in a row; escalates from yielding to forcing a drain.
struct VainWakes {
  std::uint32_t count = 0;
  bool force = false;
  void another();
};

inline std::int64_t deadline_from(std::int64_t timeout_ns, std::int64_t now_ns) {
  return timeout_ns > 0 ? now_ns + timeout_ns : 0;
}

}  // namespace shunt::sockets
