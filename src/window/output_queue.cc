#include "window/output_queue.h"

#include <cstring>

#include "base/untrusted.h"
#include "ring/fence.h"

namespace shunt::window {

OutputQueue::OutputQueue(layout::Section* own, std::uint32_t own_number,
                         const layout::SectionGeometry& geometry, std::uint64_t session)
    : own_(own),
      geometry_(geometry),
      own_number_(own_number),
      sessions_(geometry.partition_count, session),
      heads_(geometry.partition_count, 0) {
  for (std::uint32_t i = 0; i < geometry.partition_count; ++i) {
    own_->lanes[i].generation.store(0, std::memory_order_relaxed);
  }
  // Fence: a reader that sees a later head, entry or buffer also sees generation 0 (pairs
  // with the fence in QueueReader::read before it looks at the generation again).
  ring::full_fence();
  for (std::uint32_t i = 0; i < geometry.partition_count; ++i) {
    own_->lanes[i].head.store(0, std::memory_order_relaxed);
    // Pairs with the acquire load in QueueReader: the head of this session is visible with it.
    own_->lanes[i].generation.store(session, std::memory_order_release);
  }
}

void OutputQueue::restart_lane(std::uint32_t destination, std::uint64_t session) {
  layout::LaneControl& lane = own_->lanes[destination - 1];
  sessions_[destination - 1] = session;
  heads_[destination - 1] = 0;
  // The same order as in the constructor, for the same reasons.
  lane.generation.store(0, std::memory_order_relaxed);
  ring::full_fence();
  lane.head.store(0, std::memory_order_relaxed);
  lane.generation.store(session, std::memory_order_release);
}

void OutputQueue::mend() {
  for (std::uint32_t i = 0; i < geometry_.partition_count; ++i) {
    own_->lanes[i].head.store(heads_[i], std::memory_order_release);
  }
}

PushResult OutputQueue::room(std::uint32_t destination, const layout::Section* reader) const {
  const layout::LaneAck& ack = reader->acks[own_number_ - 1];
  std::uint64_t tail = 0;
  // Acquire: the tail read next is at least the one stored with this generation. And the reader is
  // done with the buffers before `tail` (pairs with its release store).
  if (Untrusted(ack.generation).copy_acquire() == sessions_[destination - 1]) {
    tail = Untrusted(ack.tail).copy_acquire();
  }
  const std::uint64_t unread = heads_[destination - 1] - tail;
  if (unread > geometry_.lane_entries) return PushResult::kBadAck;
  return unread == geometry_.lane_entries ? PushResult::kFull : PushResult::kPushed;
}

PushResult OutputQueue::push(std::uint32_t destination, const layout::Section* reader,
                             const wire::MessageBytes& message) {
  const PushResult possible = room(destination, reader);
  if (possible != PushResult::kPushed) return possible;
  const std::uint32_t lane = destination - 1;
  const std::uint64_t head = heads_[lane];
  const std::uint64_t slot = head & (geometry_.lane_entries - 1);
  const std::uint64_t buffer = geometry_.buffers_offset(lane) + slot * layout::kBufferBytes;
  std::memcpy(layout::section_data(own_, buffer), message.data(), message.size());
  layout::LaneEntry* entry = layout::lane_entry(own_, geometry_, lane, head);
  entry->offset.store(buffer, std::memory_order_relaxed);
  entry->length.store(static_cast<std::uint32_t>(message.size()), std::memory_order_relaxed);
  heads_[lane] = head + 1;
  // Publishes buffer and entry: pairs with the reader's acquire load of head.
  own_->lanes[lane].head.store(head + 1, std::memory_order_release);
  return PushResult::kPushed;
}

}  // namespace shunt::window
