// The private positions of the two ends of a stream.
//
// They live in memory that only the owner's processes (a parent and its forked children) can write,
// never in an area: what a peer claims is checked against them. Plain data, zero-initialised; the
// socket's lock for the direction protects each. A WriterState needs Writer::set_limit before use, a
// ReaderState the peer's generation.
#pragma once

#include <cstddef>
#include <cstdint>

#include "layout/area.h"

namespace shunt::ring {

enum class Status {
  kOk,
  kCorrupt,  // the peer's area contradicts itself or what it said before: reset the connection
};

// Where an area's segments are: the first one may lie apart from the others (layout/arena.h).
template <typename Byte>
struct Segments {
  Byte* first = nullptr;
  Byte* rest = nullptr;  // where the first one would be if it lay before the others

  Byte* at(std::uint32_t index) const {
    return (index == 0 ? first : rest) + std::size_t{index} * layout::kSegmentBytes;
  }
};

// An area as its owner has mapped it, and as its peer has. From a pointer alone: a whole area.
struct OwnArea {
  layout::Area* control;
  Segments<std::uint8_t> segments;

  OwnArea(layout::Area* whole) : control(whole) {  // NOLINT(google-explicit-constructor)
    if (whole != nullptr) segments.first = segments.rest = layout::segment_data(whole, 0);
  }
  OwnArea(layout::Area* control_of, const Segments<std::uint8_t>& segments_of)
      : control(control_of), segments(segments_of) {}
};
struct PeerArea {
  const layout::Area* control;
  Segments<const std::uint8_t> segments;

  PeerArea(const layout::Area* whole) : control(whole) {  // NOLINT(google-explicit-constructor)
    if (whole != nullptr) segments.first = segments.rest = layout::segment_data(whole, 0);
  }
  PeerArea(const layout::Area* control_of, const Segments<const std::uint8_t>& segments_of)
      : control(control_of), segments(segments_of) {}
};

inline constexpr std::uint32_t kMinSegments = 2;  // a reader may lag by one while we fill the other

struct WriterState {
  std::uint64_t head;        // bytes appended; equals hot.head except between append and publish
  std::uint64_t published;   // hot.head
  std::uint64_t tail;        // the peer's tail as last seen and found plausible
  std::uint64_t limit;       // bytes in flight at most
  std::uint64_t members;     // bit i: segment i belongs to the circular buffer
  std::uint64_t released;    // bit i: segment i left the buffer and its memory may be given back
  std::uint32_t segment;     // current segment
  std::uint32_t offset;      // first free byte in it
  std::uint32_t wait_epoch;  // our hot.send_waiting; odd while we wait
  std::uint32_t rung_epoch;  // the peer's recv_waiting for which we have rung
  std::uint32_t small_laps;  // segments filled in a row while at most one was in use
  std::uint64_t base[layout::kSegmentCount];  // stream position of each member's first byte
  std::uint8_t next[layout::kSegmentCount];
};

struct ReaderState {
  std::uint64_t tail;        // bytes consumed; equals our tail line
  std::uint64_t head;        // the peer's head as last seen and found plausible
  std::uint64_t looked;      // `tail` when we last looked whether the peer sleeps for space
  std::uint32_t segment;     // the peer's segment that holds `tail`
  std::uint32_t offset;      // of `tail` in it
  std::uint32_t generation;  // of the peer's area, as told at set-up
  std::uint32_t wait_epoch;  // our hot.recv_waiting; odd while we wait
  std::uint32_t rung_epoch;  // the peer's send_waiting for which we have rung
  std::uint16_t flags;       // the peer's flags as last seen
};

}  // namespace shunt::ring
