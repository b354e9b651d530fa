// Mailbox: datagrams between the drivers of one kernel, over their `.peer` sockets: doorbells, and the
// descriptors that belong to a CONNECT.
//
// Invariants: a datagram counts only if the window's owner or root sent it, in the name of another
// partition of the window, and if it is one of the two kinds. Nothing here blocks.
//
// Thread safety: one thread. Errors: errno, and counters of the own section.
#pragma once

#include <cassert>
#include <functional>
#include <span>
#include <vector>

#include "driver/core/core.h"
#include "driver/core/datagram.h"
#include "driver/core/poller.h"
#include "driver/strangers/pass_fds.h"
#include "driver/strangers/stranger_fd.h"
#include "window/unique_fd.h"

namespace shunt::driver {

class Mailbox {
 public:
  // `socket`: bound to the own `.peer` name, with SO_PASSCRED. In interrupt mode it is watched;
  // otherwise drain() looks at it.
  Mailbox(Core& core, window::UniqueFd socket);
  ~Mailbox();

  // Who takes descriptors (always two). Without a taker they are closed and counted as bad.
  void take_descriptors(std::function<void(const Datagram&, Received&)> taker);
  // Everything that lies in the own socket, as far as one round of the loop goes.
  void drain();

  // 0, EAGAIN (the peer's socket is full: call_when_writable), or why not.
  int send(const Peer& to, const Datagram& datagram, std::span<const int> fds);
  // `callback` runs in each round of the event loop in which send() may succeed, until nullptr.
  void call_when_writable(const Peer& to, std::function<void()> callback);
  // Whether a driver answers at the peer's name; connects if need be.
  bool reach(const Peer& to);
  bool connected(const Peer& to) const;

 private:
  struct Line {  // to one peer
    window::UniqueFd socket;
    Poller::Token watch = 0;  // of socket, while writable is set
    std::function<void()> writable;
  };
  Line& line(const Peer& to) {
    assert(to.number() != core_.self.number && to.number() <= lines_.size());
    return lines_[to.number() - 1];
  }
  bool receive_one();
  int connect(const Peer& to);
  void watch(Line& line);

  Core& core_;
  StrangerFd own_;  // what lies in its queue came from programs
  Poller::Token own_watch_ = 0;
  std::function<void(const Datagram&, Received&)> taker_;
  std::vector<Line> lines_;
};

}  // namespace shunt::driver
