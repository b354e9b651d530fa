// The receiving end of a stream: reads the peer's segments, moves tail in the own area.
//
// Invariants: tail <= head <= tail + kStreamBytes; every index and length read from the peer is
// copied once and checked; at a segment's end its `end`, `length` and `next` and the next segment's
// `base` must fit the position we have counted ourselves, so links in a cycle are found out.
// Thread safety: none; the caller holds the direction's lock. Nothing here blocks or allocates.
// Errors: Status::kCorrupt: the peer's area is not what a correct writer leaves, or is another connection's by
// now (ring/current.h): what was copied before that was found out is not counted as copied.
#pragma once

#include <cstddef>
#include <cstdint>

#include "layout/area.h"
#include "ring/state.h"

namespace shunt::ring {

class Reader {
 public:
  Reader(layout::Area* own, PeerArea peer, ReaderState* state)
      : own_(own), peer_(peer.control), segments_(peer.segments), s_(state) {}

  // Looks at the peer's hot line. Afterwards available() and flags() are up to date.
  Status refresh();
  std::uint64_t available() const { return s_->head - s_->tail; }
  std::uint16_t flags() const { return s_->flags; }

  // Copies up to `size` bytes from position tail + skip without consuming, as far as they are
  // available and contiguous; returns how many, 0 when none. A null `out` only counts.
  std::size_t copy(std::uint64_t skip, std::uint8_t* out, std::size_t size, Status* status);
  // Consumes `size` <= available() bytes and publishes tail.
  Status consume(std::uint64_t size);
  // copy + consume, the common case.
  std::size_t read(std::uint8_t* out, std::size_t size, Status* status);

  // After consume(): true once for each time the peer went to sleep for space. Then ring. Looks only
  // once for every kLookEveryBytes consumed: that saves the fence for small messages, and a writer
  // that sleeps is not woken for every few bytes. It never leaves a writer asleep for good: see
  // reader.cc.
  bool must_ring_for_space();
  // The same without the shortcut; used when the peer must learn of flags.
  bool must_ring();

  // Announces that we are about to sleep for data; a new announcement each time, so a sleeper that
  // was woken in vain calls it again. After it, refresh() before sleeping. end_wait() when nobody
  // sleeps any more.
  void begin_wait();
  void end_wait();
  bool waiting() const { return (s_->wait_epoch & 1) != 0; }

 private:
  // Where position tail + skip lies; follows links, which it checks.
  bool locate(std::uint64_t skip, std::uint32_t* segment, std::uint32_t* offset) const;
  bool next_segment(std::uint32_t from, std::uint64_t position, std::uint32_t* to) const;
  std::size_t copy_inline(std::uint8_t* out, std::size_t size);
  std::size_t copied(std::size_t size, Status* status) const;

  layout::Area* own_;
  const layout::Area* peer_;
  Segments<const std::uint8_t> segments_;
  ReaderState* s_;
};

}  // namespace shunt::ring
