// Arrivals: the listening side. Another partition's driver brings a connection for a program here.
//
//   the other driver          this driver                     listener's provider
//     |-- CONNECT (its queue) -->|-- CONNECT + fds (rendezvous) ---->|
//     |<-------- STATUS ---------|                                   |
//     |                          |<- accept(): CONNECTED or REFUSED -|
//     |<-- CONNECTED, REFUSED ---|          (or it just closes)      |
//
// Invariants: at most kHandedMax connections wait for a listener's accept, at most kHandedOfUser for the listeners of
// one user (quota.h): whoever never accepts leaves places to the others. A source address must
// belong to the partition that sent it.
//
// Thread safety: one thread. Errors: as counters and REFUSED; nothing throws but out of memory.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "driver/carriers/carrier.h"
#include "driver/core/core.h"
#include "driver/core/listeners_seen.h"
#include "driver/strangers/quota.h"
#include "driver/strangers/stranger_fd.h"
#include "wire/message.h"
#include "wire/reason.h"

namespace shunt::driver {

inline constexpr std::size_t kHandedMax = 4096;
inline constexpr std::size_t kHandedOfUser = kHandedMax / 4;

class Arrivals {
 public:
  Arrivals(Core& core, Carrier& carrier);
  ~Arrivals();

  void on_connect(Peer& from, const wire::Message& message);
  // The listener is not to accept this one any more, if it has not yet.
  void withdraw(std::uint32_t peer, std::uint64_t id);

 private:
  struct Handed {  // waits for the listener's accept
    StrangerFd rendezvous;
    uid_t owner = 0;
    Poller::Token watch = 0;
    Peer* from = nullptr;
    std::uint64_t from_generation = 0;
    std::uint64_t id = 0;
    bool pass_answer_on = false;
  };

  wire::Reason check(const Peer& from, const wire::Message& message) const;
  wire::Reason hand_over(Peer& from, const wire::Message& message);
  void on_listener(std::uint64_t key);
  void forget(std::uint64_t key);
  void reply(Peer& to, std::uint64_t id, wire::MessageType type, wire::Reason reason);

  Core& core_;
  Carrier& carrier_;
  std::uint64_t next_key_ = 1;
  std::unordered_map<std::uint64_t, Handed> handed_;
  Quota quota_{kHandedOfUser};
  ListenersSeen listeners_;
};

}  // namespace shunt::driver
