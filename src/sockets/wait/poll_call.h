// PollCall: one poll, the program's array and the one that the kernel gets.
//
//   look()            what user space knows, into revents
//   arm(); look(); sleep(); disarm(); answer_bells(); look(); merge()
//
// Invariants: every socket of ours in the array stays pinned as long as it lives. Between arm() and disarm() the
// caller is counted as a sleeper of each connection.
// Thread safety: one thread. Errors: -errno of the system call.
#pragma once

#include <poll.h>
#include <signal.h>

#include "sockets/process/socket.h"
#include "sockets/thread/spin.h"

namespace shunt::sockets {

// Whether poll and select are ours to answer for it.
bool special(const Socket* s);

class PollCall {
 public:
  PollCall(pollfd* fds, nfds_t count, pollfd* kernel, Socket** sockets);
  ~PollCall();
  PollCall(const PollCall&) = delete;
  PollCall& operator=(const PollCall&) = delete;

  // Fills revents from what user space knows; returns how many are non-zero.
  int look();
  // Asks the kernel about everything else without waiting and merges; returns how many are ready.
  long look_in_kernel(int ready);
  // Whether look() may find something new; costs next to nothing.
  bool moved() const;

  // Announces sleep on every connection; afterwards look() once more.
  void arm(bool force);
  void disarm();

  // A cancellation point. Armed before; the caller disarms.
  long sleep(const timespec* timeout, const sigset_t* mask);
  // After sleep(): the kernel's own descriptors into revents.
  long merge(int ready);
  // A bell may announce the other side's end or CONNECTED.
  void answer_bells();
  // look() found what cannot be done while armed: disarm, and begin anew.
  bool again() const { return again_; }
  SpinBudget* spin();  // null: nothing to spin for

 private:
  void prepare(bool with_bells);

  pollfd* fds_;
  nfds_t count_;
  pollfd* kernel_;
  Socket** sockets_;
  bool others_ = false;  // descriptors that the kernel answers for
  bool armed_ = false;
  bool again_ = false;  // look again, not armed, before sleeping
};

}  // namespace shunt::sockets
