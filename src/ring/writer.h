// The sending end of a stream: appends bytes to linked segments in the own area and publishes them.
//
// Invariants: head - tail <= limit <= kStreamBytes; a segment is entered only when every byte of its
// former lap has been read; a segment is left only when it is full; `next` and `base` of a segment
// are written before the head that makes them reachable is published.
// Thread safety: none; the caller holds the direction's lock. Nothing here blocks or allocates.
// Errors: Status::kCorrupt when the peer's tail is impossible.
#pragma once

#include <cstddef>
#include <cstdint>

#include "layout/area.h"
#include "ring/state.h"

namespace shunt::ring {

enum class Form : std::uint8_t { kWhole, kPlace };  // layout/area.h

// Makes an area that of the connection `generation` (not 0): clears its control and fills the header. The
// segments come into use later. The area may be another connection's until now, and still be read by it: the
// generation words are 0 before anything else changes, and set last (ring/current.h).
void init_area(layout::Area* own, std::uint32_t generation, Form form = Form::kWhole);
// Whether a peer's header (read from a private copy) is one that init_area could have written.
bool valid_header(const layout::AreaHeader& header, std::uint32_t generation,
                  Form form = Form::kWhole);

class Writer {
 public:
  // `peer` may be null while the peer's area is not known yet: then nothing has been read.
  Writer(OwnArea own, const layout::Area* peer, WriterState* state)
      : own_(own.control), segments_(own.segments), peer_(peer), s_(state) {}

  // Sets the limit of bytes in flight, clamped to [kMinSegments segments, kStreamBytes].
  void set_limit(std::uint64_t bytes);

  // Copies what fits of [data, data + size) behind head and returns how much; publishes nothing.
  // At most one segment's worth for each call, so that a reader can start on the first part.
  std::size_t append(const std::uint8_t* data, std::size_t size, Status* status);

  // Makes appended bytes visible, and beside them how far the own area says that we have read. That
  // is taken from the tail line, not from a ReaderState: another thread may be reading meanwhile, and
  // an echo ahead of the tail line would look to the peer like a tail that moves backwards.
  void publish();

  // Reads the peer's tail again. Afterwards space() is up to date.
  Status refresh();
  // Takes over the tail that came beside the peer's head, in a line just read: no extra transfer.
  void take_echo();
  // 0 also when a lowered limit is below what is in flight already.
  std::uint64_t space() const { return s_->limit > in_flight() ? s_->limit - in_flight() : 0; }
  std::uint64_t in_flight() const { return s_->head - s_->tail; }
  // The own bytes from `position` (of those in flight) on, as far as they are contiguous: how many,
  // and where. 0: `position` is head, or nothing that was written.
  std::size_t written(std::uint64_t position, const std::uint8_t** at) const;
  // Enough room that a sender who was told "full" should be woken.
  bool writable();

  // After publish(), set_flags(): true once for each time the peer went to sleep. Then ring.
  bool must_ring();

  void set_flags(std::uint16_t flags);

  // Announces that we are about to sleep for space; a new announcement each time, so a sleeper that
  // was woken in vain calls it again. After it, look again (refresh(), then writable()) before
  // sleeping. end_wait() when nobody sleeps any more.
  void begin_wait();
  void end_wait();

  // Shrinks the circular buffer to kMinSegments if nothing is in flight beyond the current segment.
  // The bits of segments whose memory can be returned accumulate in take_released().
  void shrink();
  std::uint64_t take_released();
  std::uint32_t segments() const {
    return static_cast<std::uint32_t>(__builtin_popcountll(s_->members));
  }

 private:
  bool enter_next_segment(Status* status);
  bool is_free(std::uint32_t index) const;
  void enter(std::uint32_t index);
  void publish_inline(std::uint64_t start);
  layout::Area* own_;
  Segments<std::uint8_t> segments_;
  const layout::Area* peer_;
  WriterState* s_;
};

}  // namespace shunt::ring
