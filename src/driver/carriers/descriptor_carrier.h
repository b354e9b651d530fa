// DescriptorCarrier: the partitions share a kernel, so descriptors can travel between their drivers.
//
//   program              driver                  the other driver            listener's provider
//     |- area, bell ------->|                           |                            |
//     |                     |- area, bell (.peer) ----->|                            |
//     |                     |- CONNECT (queue) -------->|- CONNECT, area, bell ----->|
//
// Invariants: descriptors leave with the datagram and are closed here at once. Those that arrive are
// stashed under (partition, generation, id) until their CONNECT comes, at most kStashMax of them and
// not longer than the request limit. The two programs have each other's descriptors then: what becomes of
// their connection is not heard here.
//
// Thread safety: one thread. Errors: reasons and counters.
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <unordered_map>

#include "driver/carriers/carrier.h"
#include "driver/carriers/mailbox.h"
#include "driver/core/core.h"

namespace shunt::driver {

inline constexpr std::size_t kStashMax = 256;

class DescriptorCarrier : public Carrier {
 public:
  DescriptorCarrier(Core& core, Mailbox& mailbox);
  ~DescriptorCarrier() override;

  bool sound(const wire::Message& connect, const Received& received) const override;
  wire::Reason admit(std::uint64_t id, Peer& to, const ucred& program, Received& received,
                     wire::Message* connect) override;
  int dispatch(std::uint64_t id, Peer& to) override;
  bool complete(std::uint64_t id, wire::Message* status, window::UniqueFd* fd) override;
  void abandon(std::uint64_t id) override;
  wire::Reason arrive(Peer& from, const wire::Message& connect, uid_t listener,
                      Handover* out) override;
  void handed(Peer& from, std::uint64_t id, bool done) override;

  // At each tick: closes descriptors whose CONNECT has not come in time.
  void check(Clock::time_point now);

 private:
  struct Descriptors {
    StrangerFd area;
    StrangerFd bell;
  };
  struct Stashed {
    std::uint32_t partition;
    std::uint64_t generation;
    std::uint64_t id;
    Clock::time_point deadline;
    Descriptors fds;
  };
  void stash(const Datagram& datagram, Received& received);
  std::optional<Descriptors> take(const Peer& from, std::uint64_t id);
  std::optional<Descriptors> find_stashed(const Peer& from, std::uint64_t id);

  Core& core_;
  Mailbox& mailbox_;
  std::unordered_map<std::uint64_t, Descriptors> admitted_;  // not dispatched yet
  std::list<Stashed> stash_;                                 // oldest first
};

}  // namespace shunt::driver
