#include "driver/carriers/range_carrier.h"

#include <sys/socket.h>

#include <algorithm>
#include <cassert>
#include <utility>

#include "driver/strangers/source_check.h"
#include "window/window_lease.h"

namespace shunt::driver {
namespace {

constexpr std::chrono::microseconds kSweepFirst{1000};
constexpr std::uint32_t kLingeringAtOnce = 64;

}  // namespace

RangeCarrier::RangeCarrier(Core& core, std::function<void(std::uint32_t, std::uint64_t)> withdrawn)
    : Carrier({.descriptors = 2, .reservation = 0}),  // reservation, bell
      core_(core),
      place_{core.backing.device->fd.get(), core.backing.device->base, core.self.number},
      policy_(core.options.allow),
      arena_(reinterpret_cast<std::uint8_t*>(&core.section()), core.backing.geometry,
             core.self.number,
             core.options.areas_per_program != 0 ? core.options.areas_per_program
                                                 : core.backing.geometry.areas,
             [this](std::uint64_t offset) { return window::leased(place_, offset); }),
      relay_(
          core, arena_, [this](std::uint64_t offset) { return window::leased(place_, offset); },
          [withdrawn = std::move(withdrawn)](const BellRelay::LinkId& link) {
            withdrawn(link.peer, link.id);
          }) {}

bool RangeCarrier::sound(const wire::Message& connect, const Received& received) const {
  return connect.area == wire::Location{} && is_bell(received.fds[1].get());
}

wire::Reason RangeCarrier::give(std::uint32_t peer, pid_t pid, window::AreaGrant* out) {
  if (core_.disputed()) return wire::Reason::kNoMemory;  // it may be another driver's to give
  if (arena_.used() == arena_.total()) arena_.sweep(arena_.total());
  return arena_.give(peer, pid, out);
}

wire::Reason RangeCarrier::admit(std::uint64_t id, Peer& to, const ucred& program,
                                 Received& received, wire::Message* connect) {
  assert(received.fds.size() == descriptors() && !admitted_.contains(id));
  if (!policy_.may_use(program.uid)) return wire::Reason::kNotAllowed;
  Admitted admitted{to.number(), {}};
  const wire::Reason reason = give(to.number(), program.pid, &admitted.own);
  if (reason != wire::Reason::kNone) return reason;
  relay_.open({to.number(), id, BellRelay::Side::kConnecting}, std::move(received.fds[1]),
              admitted.own, 0);
  connect->area = {wire::kObjectSection, admitted.own.section_offset,
                   core_.backing.geometry.area_stride};
  connect->generation = admitted.own.generation;
  admitted_.emplace(id, admitted);
  return wire::Reason::kNone;
}

int RangeCarrier::dispatch(std::uint64_t id, Peer&) {
  admitted_.at(id).asked = true;
  return 0;
}

bool RangeCarrier::complete(std::uint64_t id, wire::Message* status, window::UniqueFd* fd) {
  const auto found = admitted_.find(id);
  if (found == admitted_.end()) return false;
  if (!relay_.rings({found->second.peer, id, BellRelay::Side::kConnecting})) return false;
  const window::AreaGrant& own = found->second.own;
  *fd = lease({own.window_offset});
  if (!*fd) return false;
  status->area = for_program(own.window_offset);
  status->generation = own.generation;
  admitted_.erase(found);
  return true;
}

void RangeCarrier::abandon(std::uint64_t id) {
  const auto found = admitted_.find(id);
  if (found == admitted_.end()) return;
  const Admitted admitted = found->second;
  admitted_.erase(found);
  relay_.withdraw({admitted.peer, id, BellRelay::Side::kConnecting}, admitted.asked);
}

void RangeCarrier::on_verdict(Peer& from, const wire::Message& message) {
  if (message.type == wire::MessageType::kConnected) on_connected(from, message);
  // Nothing of the request is there. abandon() follows if it still waits.
  if (message.type == wire::MessageType::kRefused) {
    relay_.refused({from.number(), message.id, BellRelay::Side::kConnecting});
  }
}

void RangeCarrier::on_connected(Peer& from, const wire::Message& message) {
  const BellRelay::LinkId link{from.number(), message.id, BellRelay::Side::kConnecting};
  // A link that has ended on either side waits for nothing any more; that is nobody's fault.
  if (!relay_.awaits_connected(link)) return;
  const auto offset = window_offset(from, message);
  if (!offset || admitted_.contains(message.id)) {
    count(core_.counters().messages_bad);
    if (!admitted_.contains(message.id)) relay_.abort(link);
    return;
  }
  const window::UniqueFd fd = lease({*offset});
  if (!fd) {
    relay_.abort(link);
    return;
  }
  wire::Message connected;
  connected.type = wire::MessageType::kConnected;
  connected.generation = message.generation;
  connected.area = for_program(*offset);
  relay_.connected(link, *offset, connected, fd.get());
}

wire::Reason RangeCarrier::arrive(Peer& from, const wire::Message& connect, uid_t listener,
                                  Handover* out) {
  assert(!arriving_);
  const BellRelay::LinkId link{from.number(), connect.id, BellRelay::Side::kListening};
  const auto peer_offset = window_offset(from, connect);
  if (!peer_offset || connect.id == 0 || connect.id > wire::kNoticeId || relay_.knows(link)) {
    return wire::Reason::kRefused;
  }
  if (!policy_.may_use(listener)) return wire::Reason::kNotAllowed;
  window::AreaGrant own;
  const wire::Reason reason = give(from.number(), 0, &own);
  if (reason != wire::Reason::kNone) return reason;
  int bell[2];
  const bool paired = ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, bell) == 0;
  window::UniqueFd device = paired ? lease({*peer_offset, own.window_offset}) : window::UniqueFd();
  if (!device) {
    if (paired) {
      ::close(bell[0]);
      ::close(bell[1]);
    }
    arena_.peer_let_go(own.index);
    arena_.end(own.index);
    return wire::Reason::kNoMemory;
  }
  relay_.open(link, StrangerFd(bell[0]), own, *peer_offset);
  arriving_ = link;
  out->connect = connect;
  out->connect.session = 0;
  out->connect.from_session = 0;
  out->connect.area = for_program(*peer_offset);
  out->connect.own = for_program(own.window_offset);
  out->connect.own_generation = own.generation;
  out->made.push_back(std::move(device));
  out->made.emplace_back(bell[1]);
  return wire::Reason::kNone;
}

void RangeCarrier::handed([[maybe_unused]] Peer& from, [[maybe_unused]] std::uint64_t id,
                          bool done) {
  const auto link = std::exchange(arriving_, std::nullopt);
  assert(!link || (link->peer == from.number() && link->id == id));
  if (link && !done) relay_.withdraw(*link, false);
}

void RangeCarrier::on_notices(Peer& from, const wire::Message& message) {
  relay_.on_notices(from, message);
}

void RangeCarrier::on_peer_gone(Peer& peer) { relay_.reset_all(peer); }

std::optional<std::uint64_t> RangeCarrier::window_offset(const Peer& of,
                                                         const wire::Message& message) const {
  const layout::DeviceGeometry& g = core_.backing.geometry;
  const wire::Location& area = message.area;
  if (area.object != wire::kObjectSection || area.length != g.area_stride ||
      g.area_at(area.offset) < 0 || message.generation == 0) {
    return std::nullopt;
  }
  return g.section_offset(of.number()) + area.offset;
}

wire::Location RangeCarrier::for_program(std::uint64_t window_offset) const {
  return {wire::kObjectWindow, core_.backing.device->base + window_offset,
          core_.backing.geometry.area_stride};
}

window::UniqueFd RangeCarrier::lease(std::initializer_list<std::uint64_t> window_offsets) const {
  return window::lease(place_, std::span(window_offsets.begin(), window_offsets.size()));
}

// Whoever still maps an area while its bell has hung up is nearly always about to leave: looked for soon,
// then ever less often.
void RangeCarrier::sweep(Clock::time_point now) {
  if (arena_.lingering() > lingering_) {
    sweep_pause_ = kSweepFirst;
    next_sweep_ = now + sweep_pause_;
  } else if (now >= next_sweep_) {
    relay_.sweep();
    arena_.sweep(kLingeringAtOnce);
    const std::chrono::microseconds longest = core_.options.tick;
    sweep_pause_ = std::clamp(sweep_pause_ * 2, kSweepFirst, longest);
    next_sweep_ = now + sweep_pause_;
  }
  lingering_ = arena_.lingering();
}

std::chrono::microseconds RangeCarrier::flush(Clock::time_point now) {
  const bool waiting = relay_.wants_sweep() || arena_.lingering() > 0;
  if (waiting) sweep(now);
  if (relay_.flush()) return std::chrono::microseconds{0};
  if (!waiting) return Poller::kForever;
  assert(next_sweep_ >= now);  // what is negative would be for ever
  return std::chrono::duration_cast<std::chrono::microseconds>(next_sweep_ - now);
}

}  // namespace shunt::driver
