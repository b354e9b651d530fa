#include "driver/core.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>

#include "base/untrusted.h"
#include "ring/fence.h"
#include "window/error.h"
#include "window/table_file.h"

namespace shunt::driver {
namespace {

constexpr std::size_t kBacklogMax = 1024;

template <typename T>
void clear(std::atomic<T>& word) {
  word.store(0, std::memory_order_relaxed);
}

void clear_counters(layout::Section* s) {
  layout::SectionCounters& c = s->header.counters;
  for (auto* word : {&c.messages_sent, &c.messages_received, &c.messages_bad, &c.doorbells_rung,
                     &c.doorbells_received, &c.lane_full, &c.fds_dropped, &c.datagrams_bad,
                     &c.requests, &c.requests_cancelled, &c.requests_bad, &c.listeners_seen}) {
    clear(*word);
  }
  for (auto& word : c.request_refused) clear(word);
  for (auto& word : c.arrival_refused) clear(word);
  for (layout::PeerCounters& p : s->peers) {
    for (auto* word : {&p.requests_sent, &p.requests_queued, &p.connected, &p.arrivals,
                       &p.arrivals_queued, &p.arrivals_accepted}) {
      clear(*word);
    }
  }
  for (layout::SeenListener& l : s->listeners) {
    // Even again, whatever a driver killed in the middle of an update left.
    l.sequence.store((l.sequence.load(std::memory_order_relaxed) | 1) + 1,
                     std::memory_order_relaxed);
    clear(l.connections);
  }
}

}  // namespace

Core::Core(const Options& o)
    : options(o),
      backing(window::open_backing(o.window)),
      table(backing.table),
      self(window::require_partition(o.window, table, o.partition)),
      own_(backing, self, window::Access::kReadWrite) {
  if (!own_.try_lock()) {
    throw window::WindowError(fmt::format(
        "partition '{}' of window {} already has its driver (pid {}): a partition has exactly one",
        o.partition, o.window, Untrusted(own_.section()->header.life.pid).copy()));
  }
  begin_life();
  queue_.emplace(own_.writable(), own_.geometry(), generation_);
  for (std::uint32_t i = 0; i < table.count; ++i) {
    const bool other = i + 1 != self.number;
    peers_.push_back(other ? std::make_unique<Peer>(backing, table.partitions[i], own_.writable())
                           : nullptr);
  }
}

void Core::begin_life() {
  layout::SectionHeader& header = section().header;
  header.life.pid.store(static_cast<std::uint32_t>(::getpid()), std::memory_order_relaxed);
  header.life.state.store(static_cast<std::uint32_t>(layout::DriverState::kDown),
                          std::memory_order_relaxed);
  generation_ = header.life.generation.load(std::memory_order_relaxed) + 1;
  if (generation_ == 0) generation_ = 1;
  header.life.generation.store(generation_, std::memory_order_relaxed);
  header.life.notify.store(static_cast<std::uint32_t>(options.notify), std::memory_order_relaxed);
  header.life.started_s.store(static_cast<std::uint64_t>(::time(nullptr)),
                              std::memory_order_relaxed);
  // Awake, in an epoch that no earlier life has used.
  std::atomic<std::uint32_t>& sleeping = header.sleep.sleeping;
  sleeping.store((sleeping.load(std::memory_order_relaxed) | 1) + 1, std::memory_order_relaxed);
  clear_counters(&section());
  beat();
}

Peer* Core::peer(std::uint32_t number) {
  return number >= 1 && number <= peers_.size() ? peers_[number - 1].get() : nullptr;
}

void Core::beat() {
  layout::SectionLife& life = section().header.life;
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  life.heartbeat_ms.store(static_cast<std::uint64_t>(now.tv_sec) * 1000 +
                              static_cast<std::uint64_t>(now.tv_nsec) / 1000000,
                          std::memory_order_relaxed);
  count(life.heartbeat);
}

void Core::open() {
  // Release: whoever sees kUp sees the emptied lanes and the generation (Peer::up).
  section().header.life.state.store(static_cast<std::uint32_t>(layout::DriverState::kUp),
                                    std::memory_order_release);
}

void Core::close() {
  section().header.life.state.store(static_cast<std::uint32_t>(layout::DriverState::kDown),
                                    std::memory_order_release);
}

bool Core::push(Peer& peer, const wire::MessageBytes& bytes) {
  if (queue_->push(peer.number(), peer.section(), bytes) != window::PushResult::kPushed) {
    return false;
  }
  count(counters().messages_sent);
  ring(peer);
  return true;
}

bool Core::lane_has_room(const Peer& peer) const {
  return peer.backlog.empty() &&
         queue_->room(peer.number(), peer.section()) == window::PushResult::kPushed;
}

bool Core::post(Peer& peer, const wire::Message& message) {
  const wire::MessageBytes bytes = wire::encode(message);
  if (peer.backlog.empty() && push(peer, bytes)) return true;
  count(counters().lane_full);
  if (peer.backlog.size() >= kBacklogMax) return false;
  peer.backlog.push_back(bytes);
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
}

void Core::announce_sleep() {
  std::atomic<std::uint32_t>& sleeping = section().header.sleep.sleeping;
  sleeping.store(sleeping.load(std::memory_order_relaxed) | 1, std::memory_order_relaxed);
  // `sleeping` before the look at the lanes; pairs with ring() of the peers.
  ring::full_fence();
}

void Core::announce_awake() {
  std::atomic<std::uint32_t>& sleeping = section().header.sleep.sleeping;
  const std::uint32_t epoch = sleeping.load(std::memory_order_relaxed);
  sleeping.store((epoch | 1) + 1, std::memory_order_relaxed);
}

bool Core::any_lane_has_news() const {
  for (const auto& peer : peers_) {
    if (peer && peer->reader().has_news()) return true;
  }
  return false;
}

}  // namespace shunt::driver
