// Core: what the parts of a driver share: the own section, the other partitions, the event loop.
//
// Invariants: this driver holds the lock of its section as long as the object lives; exactly one
// driver for each partition. The section says kUp only between open() and close().
//
// Thread safety: one thread. Errors: WindowError and std::system_error while it is made.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "driver/options.h"
#include "driver/peer.h"
#include "driver/poller.h"
#include "window/backing.h"
#include "window/output_queue.h"
#include "window/section_file.h"
#include "wire/message.h"
#include "wire/partition_table.h"

namespace shunt::driver {

// Counters have one writer, this thread: no read-modify-write is needed.
inline void count(std::atomic<std::uint64_t>& counter, std::uint64_t by = 1) {
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
  bool interrupt_mode() const { return options.notify == layout::NotifyMode::kInterrupt; }

  std::vector<std::unique_ptr<Peer>>& peers() { return peers_; }
  Peer* peer(std::uint32_t number);  // nullptr: the own number or none

  // Puts a message into the lane to `peer` and rings its doorbell if it sleeps. A message that finds
  // the lane full waits in the backlog; false: that is full too, or the peer acknowledges nonsense.
  bool post(Peer& peer, const wire::Message& message);
  bool lane_has_room(const Peer& peer) const;
  void flush_backlogs();

  // The doorbell, receiving side (interrupt mode). After announce_sleep() every lane must be looked
  // at once more: whoever published before it saw us awake.
  void announce_sleep();
  void announce_awake();
  bool any_lane_has_news() const;

  void beat();
  void open();  // lanes are empty, sockets listen: the others may send
  void close();

 private:
  void begin_life();
  bool push(Peer& peer, const wire::MessageBytes& bytes);
  void ring(Peer& peer);

  window::SectionFile own_;
  std::uint64_t generation_ = 0;
  std::optional<window::OutputQueue> queue_;
  std::vector<std::unique_ptr<Peer>> peers_;
};

}  // namespace shunt::driver
