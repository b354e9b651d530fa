// RangeCarrier: the partitions share a device and no kernel, so nothing can travel but messages.
//
//   program               driver a                      driver b                  listener's provider
//     |- reservation, bell ->| area a of the own section   |                              |
//     |                      |- CONNECT {area a} --------->| area b of its section        |
//     |                      |                             |- CONNECT {a, b}, device, c1 ->|
//     |<- STATUS {a}, device-|<--------- STATUS -----------|                              |
//     |<- CONNECTED {b}, device                            |<------- CONNECTED on c1 -----|
//     |   on the bell       -|<------- CONNECTED {b} ------|                              |
//
// Each driver chooses the area that its own program writes and clears it before its place leaves the driver
// (window/arena.h). Bells end at the drivers (bell_relay.h). Every program gets a descriptor of the device
// of its own, whose locks tell when it has let go (window/window_lease.h).
//
// Places in messages of other drivers are checked against the geometry; what a place means for a program is
// computed here.
//
// Thread safety: one thread. Errors: reasons and counters.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <unordered_map>

#include "driver/carriers/bell_relay.h"
#include "driver/carriers/carrier.h"
#include "driver/core/core.h"
#include "driver/strangers/policy.h"
#include "window/arena.h"
#include "window/window_lease.h"

namespace shunt::driver {

class RangeCarrier : public Carrier {
 public:
  // `withdrawn` hears of connections that the listener is not to accept any more; not while either is made or ends.
  RangeCarrier(Core& core, std::function<void(std::uint32_t peer, std::uint64_t id)> withdrawn);

  bool sound(const wire::Message& connect, const Received& received) const override;
  wire::Reason admit(std::uint64_t id, Peer& to, const ucred& program, Received& received,
                     wire::Message* connect) override;
  int dispatch(std::uint64_t id, Peer& to) override;
  bool complete(std::uint64_t id, wire::Message* status, window::UniqueFd* fd) override;
  void abandon(std::uint64_t id) override;
  wire::Reason arrive(Peer& from, const wire::Message& connect, uid_t listener,
                      Handover* out) override;
  void handed(Peer& from, std::uint64_t id, bool done) override;

  // STATUS, CONNECTED or REFUSED from another driver, before Requests hears of it.
  void on_verdict(Peer& from, const wire::Message& message);
  void on_notices(Peer& from, const wire::Message& message);
  // Declared dead, or in a new session: it knows nothing of any connection of before.
  void on_peer_gone(Peer& peer);
  // In each round of the loop, after the backlogs. Returns when it wants to be called again at the
  // latest; Poller::kForever: with the next event or tick.
  std::chrono::microseconds flush(Clock::time_point now);

 private:
  struct Admitted {  // until STATUS
    std::uint32_t peer;
    window::AreaGrant own;
    bool asked = false;
  };
  wire::Reason give(std::uint32_t peer, pid_t pid, window::AreaGrant* out);
  void on_connected(Peer& from, const wire::Message& message);
  std::optional<std::uint64_t> window_offset(const Peer& of, const wire::Message& message) const;
  wire::Location for_program(std::uint64_t window_offset) const;
  window::UniqueFd lease(std::initializer_list<std::uint64_t> window_offsets) const;
  void sweep(Clock::time_point now);

  Core& core_;
  window::LeasePlace place_;
  Policy policy_;
  window::Arena arena_;
  BellRelay relay_;
  std::unordered_map<std::uint64_t, Admitted> admitted_;
  std::optional<BellRelay::LinkId> arriving_;  // between arrive() and handed()
  std::uint32_t lingering_ = 0;                // at the latest sweep
  std::chrono::microseconds sweep_pause_{0};
  Clock::time_point next_sweep_{};
};

}  // namespace shunt::driver
