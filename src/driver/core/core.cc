#include "driver/core/core.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <ctime>
#include <thread>

#include "base/untrusted.h"
#include "ring/fence.h"
#include "window/device_object.h"
#include "window/error.h"
#include "window/table_file.h"
#include "window/trust.h"

namespace shunt::driver {
namespace {

constexpr std::size_t kBacklogMax = 1024;
constexpr int kRestartBits = 16;  // of a session; the life is above
// How long a starting driver looks for the heart of a peer that says it is up.
constexpr std::chrono::milliseconds kWatchBriefly{500};

template <typename T>
void clear(std::atomic<T>& word) {
  word.store(0, std::memory_order_relaxed);
}

// A life that no lane of the section has seen: sessions of two lives never meet.
std::uint64_t next_life(const layout::Section& own, bool on_device) {
  std::uint64_t last = own.header.life.generation.load(std::memory_order_relaxed);
  if (on_device) {
    for (const layout::LaneControl& lane : own.lanes) {
      last = std::max(last, lane.generation.load(std::memory_order_relaxed) >> kRestartBits);
    }
    last &= (std::uint64_t{1} << (63 - kRestartBits)) - 1;
  }
  return last + 1 != 0 ? last + 1 : 1;
}

void clear_counters(layout::Section* s) {
  layout::SectionCounters& c = s->header.counters;
  for (auto* word : {&c.messages_sent, &c.messages_received, &c.messages_bad, &c.doorbells_rung,
                     &c.doorbells_received, &c.lane_full, &c.fds_dropped, &c.datagrams_bad,
                     &c.requests, &c.requests_cancelled, &c.requests_bad, &c.listeners_seen}) {
    clear(*word);
  }
  layout::ArenaCounters& a = s->header.arena;
  for (auto* word :
       {&a.areas_total, &a.areas_used, &a.areas_lingering, &a.no_area, &a.quota_refused, &a.links,
        &a.links_reset, &a.peers_declared_dead, &a.rings_relayed, &a.rings_delivered,
        &a.notices_sent, &a.messages_stale, &a.doorbells_missed, &a.bells_bad}) {
    clear(*word);
  }
  for (auto& word : c.request_refused) clear(word);
  for (auto& word : c.arrival_refused) clear(word);
  for (layout::PeerCounters& p : s->peers) {
    for (auto* word : {&p.requests_sent, &p.requests_queued, &p.connected, &p.arrivals,
                       &p.arrivals_queued, &p.arrivals_accepted}) {
      clear(*word);
    }
    clear(p.doorbell_kind);
    clear(p.doorbell_present);
    clear(p.doorbell_address);
    clear(p.doorbells_rung);
  }
  for (layout::SeenListener& l : s->listeners) {
    // Even again, whatever a driver killed in the middle of an update left.
    l.sequence.store((l.sequence.load(std::memory_order_relaxed) | 1) + 1,
                     std::memory_order_relaxed);
    clear(l.connections);
  }
}

window::Backing open_trusted(const std::string& spec) {
  if (!window::names_device(spec)) window::require_trusted_directory(spec);
  return window::open_backing(spec);
}

}  // namespace

Core::Core(const Options& o)
    : options(o),
      backing(open_trusted(o.window)),
      table(backing.table),
      self(window::require_partition(o.window, table, o.partition)),
      own_(backing, self, window::Access::kReadWrite) {
  if (!own_.try_lock()) {
    throw window::WindowError(fmt::format(
        "partition '{}' of window {} already has its driver (pid {}): a partition has exactly one",
        o.partition, o.window, Untrusted(own_.section()->header.life.pid).copy()));
  }
  if (on_device()) {
    tenancy_.emplace(&section().header.life, options.dead_after);
    tenancy_->take(options.partition, options.window);
  }
  begin_life();
  // On a device the lanes' generations are sessions.
  queue_.emplace(own_.writable(), self.number, own_.geometry(),
                 on_device() ? generation_ << kRestartBits : generation_);
  for (std::uint32_t i = 0; i < table.count; ++i) {
    const bool other = i + 1 != self.number;
    peers_.push_back(
        other ? std::make_unique<Peer>(backing, table.partitions[i], self, own_.writable(), options)
              : nullptr);
  }
  assert(peers_.size() == table.count && peer(self.number) == nullptr);
  if (on_device()) settle();
}

// No area is given out, and no message read, before every driver that lives has heard that the connections to
// earlier lives of this one are over; and a second one that starts for this partition is noticed.
void Core::settle() {
  const auto begin = Clock::now();
  for (;;) {
    std::this_thread::sleep_for(options.tick);
    const auto now = Clock::now();
    bool all = now - begin >= 2 * options.tick;
    for (const auto& peer : peers_) {
      if (!peer) continue;
      if (peer->liveness()->look(now) == Liveness::Change::kDied) new_session(*peer);
      peer->reader().follow(peer->liveness()->session());
      if (!peer->liveness()->acknowledged(session(*peer), now, kWatchBriefly)) all = false;
    }
    beat();
    if (all || now - begin > options.dead_after) break;
  }
  tenancy_->confirm(options.partition, options.window);
}

void Core::begin_life() {
  layout::SectionHeader& header = section().header;
  header.life.pid.store(static_cast<std::uint32_t>(::getpid()), std::memory_order_relaxed);
  header.life.state.store(static_cast<std::uint32_t>(layout::DriverState::kDown),
                          std::memory_order_relaxed);
  generation_ = next_life(section(), on_device());
  assert(generation_ != 0);
  beats_ = header.life.heartbeat.load(std::memory_order_relaxed);
  header.life.generation.store(generation_, std::memory_order_relaxed);
  header.life.notify.store(static_cast<std::uint32_t>(options.notify), std::memory_order_relaxed);
  header.life.started_s.store(static_cast<std::uint64_t>(::time(nullptr)),
                              std::memory_order_relaxed);
  // Awake, in an epoch that no earlier life has used.
  sleep_epoch_ = header.sleep.sleeping.load(std::memory_order_relaxed);
  announce_awake();
  clear_counters(&section());
  beat();
}

Peer* Core::peer(std::uint32_t number) {
  return number >= 1 && number <= peers_.size() ? peers_[number - 1].get() : nullptr;
}

void Core::beat() {
  if (disputed()) return;
  assert(!lost_);
  layout::SectionLife& life = section().header.life;
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  life.heartbeat_ms.store(static_cast<std::uint64_t>(now.tv_sec) * 1000 +
                              static_cast<std::uint64_t>(now.tv_nsec) / 1000000,
                          std::memory_order_relaxed);
  if (queue_ && on_device()) repair();
  // Release: whoever sees the beat sees the sessions that went before (Liveness::look).
  life.heartbeat.store(++beats_, std::memory_order_release);
}

// What others need to find us alive and to be heard, if somebody wrote over it. A session is not put back: who saw the
// wrong one
// has forgotten the connections, and would read the lane again from its beginning. It is over, like a lane that
// broke.
void Core::repair() {
  layout::SectionLife& life = section().header.life;
  life.generation.store(generation_, std::memory_order_relaxed);
  life.state.store(static_cast<std::uint32_t>(state_), std::memory_order_release);
  queue_->mend();
  for (const auto& peer : peers_) {
    if (!peer) continue;
    peer->reader().mend();
    const auto& shown = section().lanes[peer->number() - 1].generation;
    if (shown.load(std::memory_order_relaxed) == session(*peer)) continue;
    if (peer->speaks()) {
      peer->liveness()->break_lane();
    } else {
      new_session(*peer);
    }
  }
}

bool Core::still_ours() {
  if (!tenancy_) return true;
  return tenancy_->still_ours(beats_, generation_);
}

void Core::leave() {
  lost_ = true;
  own_.cut_off();
}

void Core::open() {
  assert(state_ == layout::DriverState::kDown && !lost_ && !disputed());
  state_ = layout::DriverState::kUp;
  // Release: whoever sees kUp sees the emptied lanes and the generation (Peer::up).
  section().header.life.state.store(static_cast<std::uint32_t>(state_), std::memory_order_release);
}

void Core::close() {
  if (lost_ || disputed()) return;
  state_ = layout::DriverState::kDown;
  section().header.life.state.store(static_cast<std::uint32_t>(state_), std::memory_order_release);
}

void Core::new_session(Peer& peer) {
  assert(on_device() && !disputed());
  peer.backlog.clear();
  queue_->restart_lane(peer.number(), session(peer) + 1);
}

bool Core::push(Peer& peer, const wire::MessageBytes& bytes) {
  if (disputed()) return false;
  const window::PushResult result = queue_->push(peer.number(), peer.section(), bytes);
  if (result == window::PushResult::kBadAck && on_device()) peer.liveness()->break_lane();
  if (result != window::PushResult::kPushed) return false;
  count(counters().messages_sent);
  ring(peer);
  return true;
}

bool Core::lane_has_room(const Peer& peer) const {
  return !disputed() && peer.backlog.empty() &&
         queue_->room(peer.number(), peer.section()) == window::PushResult::kPushed;
}

bool Core::post(Peer& peer, const wire::Message& message) {
  if (!peer.speaks()) return false;
  wire::Message stamped = message;
  if (on_device()) {
    stamped.session = peer.generation();
    stamped.from_session = session(peer);
  }
  const wire::MessageBytes bytes = wire::encode(stamped);
  if (peer.backlog.empty() && push(peer, bytes)) return true;
  count(counters().lane_full);
  if (peer.backlog.size() >= kBacklogMax) {
    if (on_device()) peer.liveness()->break_lane();
    return false;
  }
  peer.backlog.push_back(bytes);
  assert(peer.backlog.size() <= kBacklogMax);
  return true;
}

void Core::flush_backlogs() {
  for (const auto& peer : peers_) {
    if (!peer) continue;
    while (!peer->backlog.empty() && push(*peer, peer->backlog.front())) peer->backlog.pop_front();
  }
}

void Core::ring(Peer& peer) {
  // The entry's head before the look at `sleeping`; pairs with announce_sleep() of the peer.
  ring::full_fence();
  const std::uint32_t epoch = peer.sleeping();
  if ((epoch & 1) == 0) return;
  const std::uint64_t generation = peer.generation();
  if (peer.rung_epoch == epoch && peer.rung_generation == generation) return;  // once each sleep
  if (!peer.doorbell) return;
  const int error = peer.doorbell->ring();
  if (error != 0 && error != EAGAIN) return;
  peer.rung_epoch = epoch;
  peer.rung_generation = generation;
  count(counters().doorbells_rung);
  count(peer_counters(peer).doorbells_rung);
}

void Core::announce_sleep() {
  assert(!disputed() && (sleep_epoch_ & 1) == 0);
  sleep_epoch_ |= 1;
  section().header.sleep.sleeping.store(sleep_epoch_, std::memory_order_relaxed);
  // `sleeping` before the look at the lanes; pairs with ring() of the peers.
  ring::full_fence();
}

void Core::announce_awake() {
  sleep_epoch_ = (sleep_epoch_ | 1) + 1;
  section().header.sleep.sleeping.store(sleep_epoch_, std::memory_order_relaxed);
}

bool Core::any_lane_has_news() const {
  for (const auto& peer : peers_) {
    if (peer && (peer->speaks() ? peer->reader().has_news() : peer->reader().new_session())) {
      return true;
    }
  }
  return false;
}

}  // namespace shunt::driver
