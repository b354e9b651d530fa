#include "window/queue_reader.h"

#include <cstring>

#include "base/untrusted.h"
#include "ring/fence.h"

namespace shunt::window {

QueueReader::QueueReader(layout::Section* own, std::uint32_t own_number,
                         const layout::Section* producer, std::uint32_t producer_number,
                         const layout::SectionGeometry& geometry, Sessions sessions)
    : producer_(producer),
      lane_(producer->lanes[own_number - 1]),
      ack_(own->acks[producer_number - 1]),
      geometry_(geometry),
      lane_index_(own_number - 1),
      sessions_(sessions) {
  // Acquire, in this order: the head belongs to this session or a later one. A later one shows as a
  // changed session at the first read.
  const std::uint64_t session = Untrusted(lane_.generation).copy_acquire();
  begin(session, Untrusted(lane_.head).copy_acquire());
}

void QueueReader::begin(std::uint64_t session, std::uint64_t tail) {
  session_ = session;
  tail_ = tail;
  broken_ = false;
  mend();
}

void QueueReader::mend() {
  ack_.tail.store(tail_, std::memory_order_relaxed);
  // Pairs with the acquire load in OutputQueue::room: the tail comes with its session.
  ack_.generation.store(session_, std::memory_order_release);
}

bool QueueReader::new_session() const {
  const std::uint64_t session = Untrusted(lane_.generation).copy_acquire();
  return session != session_ && session != 0;
}

void QueueReader::follow(std::uint64_t session) {
  if (session != session_ && session != 0) begin(session, 0);
}

// What read() would not read is no news: whoever looks again for it would never sleep.
bool QueueReader::has_news() const {
  const std::uint64_t session = Untrusted(lane_.generation).copy_acquire();
  if (session != session_) return session != 0;
  return session_ != 0 && !broken_ && Untrusted(lane_.head).copy_acquire() != tail_;
}

ReadResult QueueReader::read(wire::MessageBytes* out) {
  const std::uint64_t session = Untrusted(lane_.generation).copy_acquire();
  if (sessions_ == Sessions::kFollow) follow(session);
  if (session != session_) return ReadResult::kEmpty;
  if (session_ == 0 || broken_) return ReadResult::kEmpty;
  // Acquire: the entry and the buffer of every position before head are visible.
  const std::uint64_t unread = Untrusted(lane_.head).copy_acquire() - tail_;
  if (unread == 0) return ReadResult::kEmpty;
  const bool believable = unread <= geometry_.lane_entries;
  const bool copied = believable && copy_message(tail_, out);
  // What was copied is of this session only if the producer did not start again meanwhile: the fence
  // keeps the copies before the load, and pairs with the fence where OutputQueue empties a lane.
  ring::full_fence();
  if (Untrusted(lane_.generation).copy() != session_) return ReadResult::kEmpty;
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
