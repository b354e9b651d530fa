// Small questions about how a blocking call of the program should behave.
#pragma once

#include <atomic>
#include <cstdint>

namespace shunt::sockets {

// Waits for input on `fd` as a blocking call waits that the kernel restarts: a signal whose handler
// asks for SA_RESTART runs its handler and the wait goes on; after another one it is -EINTR. (poll
// itself never restarts, so signals are held back while waiting, looked at, and then let through.)
// With `timeout_ns` > 0 every handler ends the wait, as Linux has it for sockets with a time-out;
// -EAGAIN when it is over. 0: input. A cancellation point.
//
// `watch`: what it takes to look at the signals, kept from one wait to the next.
class SignalWatch;
long wait_readable_restarting(int fd, std::int64_t timeout_ns, SignalWatch* watch);

// A signalfd for one wait at a time; further ones make their own. Zero-initialised memory is an empty one.
class SignalWatch {
 public:
  // For the signals in `watched`; -1: no descriptor can be had.
  int take(std::uint64_t watched);
  void give_back(int fd, std::uint64_t watched);
  void close();
  bool is(int fd) const { return fd > 0 && number_.load(std::memory_order_relaxed) == fd; }

 private:
  std::atomic<int> fd_;      // 0: none, or in use
  std::atomic<int> number_;  // of the one that is kept, in use or not; 0: none
  std::uint64_t watched_;    // of whoever has the descriptor
};

// Every signal waits while it lives, and acts when it ends.
class SignalsHeld {
 public:
  SignalsHeld();
  ~SignalsHeld();
  SignalsHeld(const SignalsHeld&) = delete;
  SignalsHeld& operator=(const SignalsHeld&) = delete;

  enum class Arrived {
    kNone,  // nor one that has no handler
    kRestarts,
    kEnds,  // a handler without SA_RESTART
  };
  Arrived arrived() const;
  std::uint64_t let_through() const { return ~blocked_; }  // what the program itself does not block

 private:
  std::uint64_t blocked_ = 0;
};

// SO_RCVTIMEO of a kernel socket in ns; 0: none.
std::int64_t receive_timeout_ns(int fd);

}  // namespace shunt::sockets
