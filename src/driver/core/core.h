// Core: what the parts of a driver share: the own section, the other partitions, the event loop.
//
// Invariants: this driver holds the lock of its section as long as the object lives; exactly one
// driver for each partition. The section says kUp only between open() and close().
//
// On a device nothing in the own section is believed either, since others can write it: what decides
// anything is kept privately.
//
// Thread safety: one thread. Errors: WindowError and std::system_error while it is made.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <type_traits>
#include <vector>

#include "driver/core/options.h"
#include "driver/core/peer.h"
#include "driver/core/poller.h"
#include "driver/core/tenancy.h"
#include "window/backing.h"
#include "window/output_queue.h"
#include "window/section_file.h"
#include "wire/message.h"
#include "wire/partition_table.h"

namespace shunt::driver {

// Counters have one writer, this thread: no read-modify-write is needed.
template <typename T>
void count(std::atomic<T>& counter, std::type_identity_t<T> by = 1) {
  counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
}

class Core {
 public:
  explicit Core(const Options& options);

  const Options options;
  const window::Backing backing;
  const wire::PartitionTable& table;
  const wire::Partition& self;
  Poller poller;

  layout::Section& section() { return *own_.writable(); }
  layout::SectionCounters& counters() { return section().header.counters; }
  layout::PeerCounters& peer_counters(const Peer& p) { return section().peers[p.number() - 1]; }
  std::uint64_t generation() const { return generation_; }
  bool on_device() const { return backing.device.has_value(); }
  bool interrupt_mode() const { return options.notify == layout::NotifyMode::kInterrupt; }

  const std::vector<std::unique_ptr<Peer>>& peers() const { return peers_; }
  Peer* peer(std::uint32_t number);  // nullptr: the own number or none

  // Puts a message into the lane to `peer` and rings its doorbell if it sleeps. A message that finds
  // the lane full waits in the backlog; false: that is full too, or the peer acknowledges nonsense,
  // or, on a device, is not there. On a device a peer that cannot be told something is declared dead
  // by its next look().
  bool post(Peer& peer, const wire::Message& message);
  bool lane_has_room(const Peer& peer) const;
  void flush_backlogs();

  // The doorbell, receiving side (interrupt mode). After announce_sleep() every lane must be looked
  // at once more: whoever published before it saw us awake.
  void announce_sleep();
  void announce_awake();
  bool any_lane_has_news() const;

  // On a device: what a message must name to be meant for us, and a new one, for which whatever waits
  // for the peer is dropped.
  std::uint64_t session(const Peer& peer) const { return queue_->session(peer.number()); }
  void new_session(Peer& peer);

  // Before beat(). False: another driver has this partition now, and this one is to leave().
  bool still_ours();
  // Nothing that is written from here on reaches the section: it belongs to somebody else, or there is something
  // else in its place.
  void leave();
  // Another driver may have it: nothing is to be read, acknowledged or posted until still_ours() knows.
  bool disputed() const { return tenancy_ && tenancy_->disputed(); }
  // Not while disputed: the section may be another driver's, and its words the truth.
  void beat();
  void open();  // lanes are empty, sockets listen: the others may send
  void close();

 private:
  void begin_life();
  void settle();
  void repair();
  bool push(Peer& peer, const wire::MessageBytes& bytes);
  void ring(Peer& peer);

  window::SectionFile own_;
  std::optional<Tenancy> tenancy_;  // on a device
  bool lost_ = false;
  // What the section says, which is never read back: others can write it.
  std::uint64_t generation_ = 0;
  std::uint64_t beats_ = 0;
  std::uint32_t sleep_epoch_ = 0;
  layout::DriverState state_ = layout::DriverState::kDown;
  std::optional<window::OutputQueue> queue_;
  std::vector<std::unique_ptr<Peer>> peers_;
};

}  // namespace shunt::driver
