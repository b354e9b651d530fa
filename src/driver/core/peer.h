// Peer: another partition as this driver sees it: its section, its lane to us, its doorbell.
//
// Invariants: everything in the peer's section is untrusted. In a directory a peer is up while its
// driver holds the section's lock, says that it is up, and its heart beats; a new generation is a new
// driver, to which nothing of before is known. On a device Liveness says so, and sessions take the
// place of generations.
//
// Thread safety: one thread. Errors: WindowError from the constructor, results elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "driver/core/doorbell.h"
#include "driver/core/liveness.h"
#include "driver/core/options.h"
#include "window/backing.h"
#include "window/queue_reader.h"
#include "window/section_file.h"
#include "wire/message.h"
#include "wire/partition_table.h"

namespace shunt::driver {

using Clock = std::chrono::steady_clock;

class Peer {
 public:
  // `partition` and `self` are two of backing.table.
  Peer(const window::Backing& backing, const wire::Partition& partition,
       const wire::Partition& self, layout::Section* own, const Options& options);

  std::uint32_t number() const { return partition_.number; }
  std::string name() const { return std::string(partition_.name()); }
  bool owns(const wire::Endpoint& endpoint) const { return partition_.owns(endpoint); }
  const layout::Section* section() const { return file_.section(); }
  window::QueueReader& reader() { return *reader_; }
  std::uint32_t lane_entries() const { return file_.geometry().lane_entries; }
  // Reads on from where the lane's head is now: a lane that broke the rules is given another chance.
  void read_anew();

  std::uint64_t generation() const;  // 0: its driver never ran
  // Looks at the heart; on a device only for one that has just come, which the next look() tells.
  bool up(Clock::time_point now);
  // On a device: Liveness::look(), and what up() has seen since the last one.
  Liveness::Change look(Clock::time_point now);
  // Whether the lane is to be read.
  bool speaks() const;
  // nullptr in a directory.
  Liveness* liveness() { return liveness_ ? &*liveness_ : nullptr; }
  const Liveness* liveness() const { return liveness_ ? &*liveness_ : nullptr; }
  std::uint32_t sleeping() const;  // epoch, odd: wants its doorbell
  // Before a line about it in the log: one whose section is full of nonsense comes, goes and errs thousands of times
  // a second.
  bool worth_a_line(Clock::time_point now);

  std::unique_ptr<Doorbell> doorbell;  // nullptr: there is none
  // Messages that found the lane full, in order.
  std::deque<wire::MessageBytes> backlog;
  // The sleep that was already answered with a doorbell.
  std::uint64_t rung_generation = 0;
  std::uint32_t rung_epoch = 0;
  // A lane that breaks the rules is reported once for each generation.
  std::uint64_t reported_generation = 0;

 private:
  const wire::Partition& partition_;
  const std::uint32_t own_number_;
  window::SectionFile file_;
  layout::Section* own_;
  std::optional<window::QueueReader> reader_;
  std::optional<Liveness> liveness_;
  std::uint64_t heartbeat_ = 0;
  Clock::time_point heartbeat_seen_{};
  bool came_ = false;  // seen by up(), not told yet
  Clock::time_point lines_since_{};
  int lines_ = 0;
};

}  // namespace shunt::driver
