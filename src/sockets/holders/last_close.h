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

// The last close is announced before it is done: kLeaving, fence, then a look at the peer's line. A peer that leaves
// its rings stores kPlain, fence, and looks at ours. So one of the two sees the other: we send over the bell what it
// has not read, or it waits for our end and takes from our area what we have left there. Nobody waits for somebody
// who is between two instructions.
class Leave {
 public:
  // `still`: of the connection of `s`. `pins`: the caller's own.
  Leave(int fd, const Socket* s, std::uint32_t pins, const Still& still);
  Leave(const Leave&) = delete;
  Leave& operator=(const Leave&) = delete;
  // False: the peer has left its rings, or CONNECTED is there. Release the locks, finish_sending(), and try again.
  bool allowed() const { return allowed_; }
  void undo();  // the descriptor has not been closed after all

 private:
  layout::SwitchLine* line_ = nullptr;
  bool allowed_ = true;
};
// Then without: this thread is inside the connection's locks already.
inline constexpr int kLeaveTries = 8;

// Has `go` done, which closes `fd`, where a peer's downgrade cannot lose what was written before. `s`: what `fd`
// names, pinned, or null. `go` gets the Leave, and runs with the connection's locks held.
template <typename Go>
void leave_with(int fd, Socket* s, std::uint32_t pins, std::int64_t deadline, Go go) {
  for (int i = 0;; ++i) {
    if (s != nullptr) finish_sending(fd, s, pins, deadline);
    const Still still(connection_of(s));
    Leave leave(fd, s, pins, still);
    if (!leave.allowed() && i < kLeaveTries) continue;
    go(leave);
    return;
  }
}

}  // namespace shunt::sockets
