#include "window/arena.h"

#include <sys/random.h>

#include <algorithm>
#include <utility>

#include "ring/writer.h"

namespace shunt::window {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

// Differs from `previous`, so that a reader of the earlier connection cannot take the area for its own.
std::uint32_t draw_generation(std::uint32_t previous) {
  std::uint32_t drawn = 0;
  if (::getrandom(&drawn, sizeof drawn, 0) != sizeof drawn) drawn = previous + 1;
  while (drawn == 0 || drawn == previous) ++drawn;
  return drawn;
}

layout::ArenaCounters& counters(std::uint8_t* section) {
  return reinterpret_cast<layout::Section*>(section)->header.arena;
}

}  // namespace

Arena::Arena(std::uint8_t* section, const layout::DeviceGeometry& geometry,
             std::uint32_t own_number, std::uint32_t program_max, Mapped mapped)
    : section_(section),
      geometry_(geometry),
      own_number_(own_number),
      program_max_(program_max),
      mapped_(std::move(mapped)),
      slots_(geometry.areas),
      used_with_(geometry.partition_count, 0) {
  if (geometry.partition_count > 1) share_ = geometry.areas / 2 / (geometry.partition_count - 1);
  for (std::uint32_t i = 0; i < total(); ++i) {
    if (!mapped_(window_offset(i))) {
      free_.push_back(i);
      continue;
    }
    // Its connection ended with the driver that gave it, at this end and at the other one.
    slots_[i].free = false;
    slots_[i].ended = true;
    slots_[i].peer_let_go = true;
    unmapping_.push_back(i);
    ++lingering_;
  }
  counters(section_).no_area.store(0, kRelaxed);
  counters(section_).quota_refused.store(0, kRelaxed);
  count();
}

std::uint64_t Arena::window_offset(std::uint32_t index) const {
  return geometry_.area_offset(own_number_, index);
}

layout::Area* Arena::area(std::uint32_t index) {
  return reinterpret_cast<layout::Area*>(section_ + geometry_.arena_offset +
                                         index * geometry_.area_stride);
}

wire::Reason Arena::may_give(std::uint32_t peer, pid_t pid) const {
  if (free_.empty()) return wire::Reason::kNoMemory;
  const auto program = used_by_.find(pid);
  if (pid != 0 && program != used_by_.end() && program->second >= program_max_) {
    return wire::Reason::kBacklogFull;
  }
  if (used_with(peer) < share_) return wire::Reason::kNone;
  std::uint64_t kept = 0;
  for (std::uint32_t other = 1; other <= geometry_.partition_count; ++other) {
    if (other == peer || other == own_number_) continue;
    kept += share_ - std::min(share_, used_with(other));
  }
  return free_.size() > kept ? wire::Reason::kNone : wire::Reason::kBacklogFull;
}

wire::Reason Arena::give(std::uint32_t peer, pid_t pid, AreaGrant* out) {
  const wire::Reason reason = may_give(peer, pid);
  if (reason != wire::Reason::kNone) {
    auto& refused = reason == wire::Reason::kNoMemory ? counters(section_).no_area
                                                      : counters(section_).quota_refused;
    refused.fetch_add(1, kRelaxed);
    return reason;
  }
  if (pid != 0) ++used_by_[pid];
  const std::uint32_t index = free_.front();
  free_.pop_front();
  Slot& slot = slots_[index];
  const std::uint32_t generation = draw_generation(slot.generation);
  slot = Slot{peer, pid, generation, false, false, false};
  ++used_with_[peer - 1];
  ring::init_area(area(index), generation);
  count();
  *out = AreaGrant{index, generation, geometry_.arena_offset + index * geometry_.area_stride,
                   window_offset(index)};
  return wire::Reason::kNone;
}

void Arena::peer_let_go(std::uint32_t index) {
  Slot& slot = slots_[index];
  if (slot.free || std::exchange(slot.peer_let_go, true)) return;
  if (slot.ended) free_unless_mapped(index);
}

void Arena::end(std::uint32_t index) {
  Slot& slot = slots_[index];
  if (slot.free || std::exchange(slot.ended, true)) return;
  ++lingering_;
  if (slot.peer_let_go) {
    free_unless_mapped(index);
  } else {
    count();
  }
}

void Arena::free_unless_mapped(std::uint32_t index) {
  if (mapped_(window_offset(index))) {
    unmapping_.push_back(index);
  } else {
    make_free(index);
  }
  count();
}

void Arena::make_free(std::uint32_t index) {
  Slot& slot = slots_[index];
  if (slot.peer != 0) --used_with_[slot.peer - 1];
  const auto program = used_by_.find(slot.pid);
  if (program != used_by_.end() && --program->second == 0) used_by_.erase(program);
  slot.free = true;
  --lingering_;
  free_.push_back(index);
}

bool Arena::sweep(std::uint32_t max) {
  const std::size_t looks = std::min<std::size_t>(max, unmapping_.size());
  for (std::size_t i = 0; i < looks; ++i) {
    const std::uint32_t index = unmapping_.front();
    unmapping_.pop_front();
    free_unless_mapped(index);
  }
  return !unmapping_.empty();
}

void Arena::count() {
  layout::ArenaCounters& shown = counters(section_);
  shown.areas_total.store(total(), kRelaxed);
  shown.areas_used.store(used(), kRelaxed);
  shown.areas_lingering.store(lingering_, kRelaxed);
}

}  // namespace shunt::window
