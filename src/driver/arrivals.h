// Arrivals: the listening side. Another partition's driver brings a connection for a program here.
//
//   the other driver          this driver                     listener's provider
//     |-- 2 fds (.peer socket) ->|                                   |
//     |-- CONNECT (its queue) -->|-- CONNECT + 2 fds (rendezvous) -->|
//     |<-------- STATUS ---------|                                   |
//     |                          |<- accept(): CONNECTED or REFUSED -|
//     |<-- CONNECTED, REFUSED ---|          (or it just closes)      |
//
// Invariants: descriptors are stashed under (partition, generation, id) until their CONNECT comes,
// at most kStashMax of them and not longer than the request limit; at most kHandedMax connections
// wait for a listener's accept. A source address must belong to the partition that sent it.
//
// Thread safety: one thread. Errors: as counters and REFUSED; nothing throws but out of memory.
#pragma once

#include <cstdint>
#include <list>
#include <unordered_map>

#include "driver/core.h"
#include "driver/datagram.h"
#include "driver/listeners_seen.h"
#include "driver/pass_fds.h"
#include "window/unique_fd.h"
#include "wire/message.h"
#include "wire/reason.h"

namespace shunt::driver {

inline constexpr std::size_t kStashMax = 256;
inline constexpr std::size_t kHandedMax = 4096;

class Arrivals {
 public:
  // `peer_socket`: bound to the `.peer` name, with SO_PASSCRED. In interrupt mode it is the doorbell.
  Arrivals(Core& core, window::UniqueFd peer_socket);
  ~Arrivals();

  void on_connect(Peer& from, const wire::Message& message);
  void drain_socket();
  void check(Clock::time_point now);

 private:
  struct Stashed {
    std::uint32_t partition;
    std::uint64_t generation;
    std::uint64_t id;
    Clock::time_point deadline;
    window::UniqueFd area;
    window::UniqueFd bell;
  };
  struct Handed {  // waits for the listener's accept
    window::UniqueFd rendezvous;
    Poller::Token watch = 0;
    Peer* from = nullptr;
    std::uint64_t from_generation = 0;
    std::uint64_t id = 0;
  };

  bool receive_one();
  void stash(const Datagram& datagram, Received& received);
  bool take(const Peer& from, std::uint64_t id, Stashed* out);
  wire::Reason hand_over(Peer& from, const wire::Message& message, const Stashed& fds);
  void on_listener(std::uint64_t key);
  void reply(Peer& to, std::uint64_t id, wire::MessageType type, wire::Reason reason);

  Core& core_;
  window::UniqueFd socket_;
  Poller::Token socket_watch_ = 0;
  std::list<Stashed> stash_;  // oldest first
  std::uint64_t next_key_ = 1;
  std::unordered_map<std::uint64_t, Handed> handed_;
  ListenersSeen listeners_;
};

}  // namespace shunt::driver
