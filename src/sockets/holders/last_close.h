// Leaving a connection: a descriptor of it is closed, replaced, or ends with its process.
//
// Thread safety: any thread. The caller has pinned the Socket.
#pragma once

#include "sockets/process/socket.h"
#include "sys/kernel.h"

namespace shunt::sockets {

// A blocking socket's patience in sending what is left; another one's is a tenth of it.
inline constexpr std::int64_t kClosePatienceNs = 10'000'000'000;

// With a connection, no ring or drain may be under way on a number while it changes hands: Still.
Connection* connection_of(const Socket* s);

// Before a descriptor of `s` goes: whether it is this process's last. `pins`: the caller's own.
void announce_if_last(Socket* s, std::uint32_t pins);

// Before that, with no lock held: a peer that has downgraded the connection reads the bell alone, and what we
// wrote into the area would be lost. `deadline`: monotonic ns; 0: as patient as the socket.
void finish_sending(int fd, Socket* s, std::uint32_t pins, std::int64_t deadline);

// The last close is announced like a ring: a peer that switches either waits until it is done, and then finds what
// we have written in our area, or is seen here, and what we have written is sent over the bell first.
class Leave {
 public:
  // `still`: of the connection of `s`. `pins`: the caller's own.
  Leave(int fd, const Socket* s, std::uint32_t pins, const Still& still);
  ~Leave() {
    if (line_ != nullptr) line_->ringing.fetch_sub(1, std::memory_order_release);
  }
  Leave(const Leave&) = delete;
  Leave& operator=(const Leave&) = delete;
  // False: release the locks, finish_sending(), and try again.
  bool allowed() const { return !switching_; }
  void for_good() { line_ = nullptr; }  // at exit: the kernel closes, later

 private:
  layout::SwitchLine* line_ = nullptr;
  bool switching_ = false;
};
inline constexpr int kLeaveTries = 1000;  // then without: a peer that says it switches for ever

// Has `go` done, which closes `fd`, where a peer's downgrade cannot lose what was written before. `s`: what `fd`
// names, pinned, or null. `go` gets the Leave, and runs with the connection's locks held.
template <typename Go>
void leave_with(int fd, Socket* s, std::uint32_t pins, std::int64_t deadline, Go go) {
  for (int i = 0;; ++i) {
    if (s != nullptr) finish_sending(fd, s, pins, deadline);
    const Still still(connection_of(s));
    Leave leave(fd, s, pins, still);
    if (!leave.allowed() && i < kLeaveTries) {
      sys::sched_yield();
      continue;
    }
    go(leave);
    return;
  }
}

}  // namespace shunt::sockets
