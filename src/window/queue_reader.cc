#include "window/queue_reader.h"

#include <cstring>

#include "base/untrusted.h"
#include "ring/fence.h"

namespace shunt::window {

QueueReader::QueueReader(layout::Section* own, const layout::Section* producer,
                         std::uint32_t producer_number, const layout::SectionGeometry& geometry)
    : producer_(producer),
      lane_(producer->lanes[own->header.identity.partition - 1]),
      ack_(own->acks[producer_number - 1]),
      geometry_(geometry),
      lane_index_(own->header.identity.partition - 1) {
  // Acquire, in this order: the head belongs to this generation or a later one. A later one shows
  // as a changed generation at the first read.
  const std::uint64_t generation = Untrusted(lane_.generation).copy_acquire();
  follow(generation, Untrusted(lane_.head).copy_acquire());
}

void QueueReader::follow(std::uint64_t generation, std::uint64_t tail) {
  generation_ = generation;
  tail_ = tail;
  broken_ = false;
  ack_.tail.store(tail, std::memory_order_relaxed);
  // Pairs with the acquire load in OutputQueue::room: the tail comes with its generation.
  ack_.generation.store(generation, std::memory_order_release);
}

bool QueueReader::has_news() const {
  if (Untrusted(lane_.generation).copy_acquire() != generation_) return true;
  return !broken_ && Untrusted(lane_.head).copy_acquire() != tail_;
}

ReadResult QueueReader::read(wire::MessageBytes* out) {
  const std::uint64_t generation = Untrusted(lane_.generation).copy_acquire();
  if (generation != generation_) follow(generation, 0);
  if (generation_ == 0 || broken_) return ReadResult::kEmpty;
  // Acquire: the entry and the buffer of every position before head are visible.
  const std::uint64_t unread = Untrusted(lane_.head).copy_acquire() - tail_;
  if (unread == 0) return ReadResult::kEmpty;
  const bool believable = unread <= geometry_.lane_entries;
  const bool copied = believable && copy_message(tail_, out);
  // What was copied is of this generation only if the producer did not start again meanwhile: the
  // fence keeps the copies before the load, and pairs with the fence in OutputQueue's constructor.
  ring::full_fence();
  if (Untrusted(lane_.generation).copy() != generation) return ReadResult::kEmpty;
  if (!believable) {
    broken_ = true;
    return ReadResult::kBadLane;
  }
  ++tail_;
  // Gives the buffer back: pairs with the acquire load in OutputQueue::room.
  ack_.tail.store(tail_, std::memory_order_release);
  return copied ? ReadResult::kMessage : ReadResult::kBadEntry;
}

bool QueueReader::copy_message(std::uint64_t position, wire::MessageBytes* out) const {
  const layout::LaneEntry* entry = layout::lane_entry(producer_, geometry_, lane_index_, position);
  const std::uint64_t offset = Untrusted(entry->offset).copy();
  const std::uint32_t length = Untrusted(entry->length).copy();
  if (length != out->size()) return false;
  if (offset < geometry_.buffers_offset(0) || offset > geometry_.buffers_end() - length) {
    return false;
  }
  std::memcpy(out->data(), layout::section_data(producer_, offset), out->size());
  return true;
}

}  // namespace shunt::window
