// Arena: who has which area of the own section. Private to the partition's driver, never in shared memory.
//
//   free -> given (to a connection with `peer`, for a program) -> free
//                     \-> lingering: the connection is over here, but the peer or a program may still map it
//
// An area is free again only when all three hold: end() was told, the peer let go (it said so with kNoticeLetGo, or
// was declared dead), and no program of this kernel maps it. The last is asked of the kernel (window_lease.h), at the
// moment when the others hold and then by sweep(). Areas that programs of an earlier life of the driver still map
// linger from the beginning. Free areas are given in the order in which they became free: a range rests as long as
// possible.
//
// Quotas. Each other partition has a guaranteed share, half of all areas divided among them, that the rest cannot
// take: beyond its own share a peer gets an area only if, afterwards, what is free still covers what the others have
// not used of theirs. A program has at most `program_max`. Lingering areas count for both.
//
// give() draws a generation and makes the area that of the new connection (ring::init_area): it is valid before any
// location leaves the driver, and whoever still reads the range for an earlier connection finds that out
// (ring/current.h).
//
// The first five of the section's ArenaCounters are kept here, for people: nothing is decided by them.
//
// Thread safety: one thread. Errors: reasons; nothing throws but out of memory.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <unordered_map>
#include <vector>

#include "layout/device.h"
#include "layout/section.h"
#include "wire/reason.h"

namespace shunt::window {

struct AreaGrant {
  std::uint32_t index = 0;
  std::uint32_t generation = 0;      // never 0
  std::uint64_t section_offset = 0;  // for other drivers: kObjectSection
  std::uint64_t window_offset = 0;   // from the window's beginning: leases, and kObjectWindow
};

class Arena {
 public:
  // Whether a program of this kernel maps the own area at a window offset. True when in doubt.
  using Mapped = std::function<bool(std::uint64_t window_offset)>;

  // `section`: the whole range of the own section, mapped for writing; it must outlive the arena.
  // `program_max`: areas for one program at a time, at least 1. Asks `mapped` about every area.
  Arena(std::uint8_t* section, const layout::DeviceGeometry& geometry, std::uint32_t own_number,
        std::uint32_t program_max, Mapped mapped);

  // An area for a connection with partition `peer` (1 .. partition_count, not the own one) of the program `pid`; 0:
  // on behalf of the peer's request. kNoMemory: none is free. kBacklogFull: a quota.
  wire::Reason give(std::uint32_t peer, pid_t pid, AreaGrant* out);
  layout::Area* area(std::uint32_t index);  // index < total()

  // Once each for an area that was given, in any order. Another time, or for a free one: nothing.
  void peer_let_go(std::uint32_t index);
  void end(std::uint32_t index);  // the connection is over here

  // Asks again about at most `max` lingering areas that only a program still maps, those that have waited longest
  // since they were asked about first. True: there are still some.
  bool sweep(std::uint32_t max);

  std::uint32_t total() const { return static_cast<std::uint32_t>(slots_.size()); }
  std::uint32_t used() const { return total() - static_cast<std::uint32_t>(free_.size()); }
  std::uint32_t lingering() const { return lingering_; }  // of those used
  std::uint32_t used_with(std::uint32_t peer) const { return used_with_[peer - 1]; }
  std::uint32_t share() const { return share_; }  // guaranteed to each peer

 private:
  struct Slot {
    std::uint32_t peer = 0;  // 0: not known, from an earlier life
    pid_t pid = 0;
    std::uint32_t generation = 0;
    bool free = true;
    bool ended = false;
    bool peer_let_go = false;
  };
  std::uint64_t window_offset(std::uint32_t index) const;
  wire::Reason may_give(std::uint32_t peer, pid_t pid) const;
  void free_unless_mapped(std::uint32_t index);
  void make_free(std::uint32_t index);
  void count();

  std::uint8_t* section_;
  layout::DeviceGeometry geometry_;
  std::uint32_t own_number_;
  std::uint32_t program_max_;
  std::uint32_t share_ = 0;
  Mapped mapped_;
  std::vector<Slot> slots_;
  std::deque<std::uint32_t> free_;       // oldest first
  std::deque<std::uint32_t> unmapping_;  // lingering, and only a program holds them
  std::uint32_t lingering_ = 0;
  std::vector<std::uint32_t> used_with_;  // [peer - 1]
  std::unordered_map<pid_t, std::uint32_t> used_by_;
};

}  // namespace shunt::window
