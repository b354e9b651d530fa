// QueueReader: the consuming side of one lane of another partition's output queue.
//
// Everything in the producer's section is untrusted: counters, entries and bytes are copied once and checked. A lane
// whose counter says more than the ring holds stays unusable until the producer's driver starts again (a new
// generation). An entry that points outside the producer's buffers is skipped; on a device the driver gives the lane
// up then, for with it a message is lost that somebody waits for. How far we have read is private and shown to the
// producer in our own section.
//
// A new session of the producer is followed by the next read(), and so acknowledged to it. Where that would say
// too much (on a device an acknowledgement means that all that belonged to the earlier session is over here),
// Sessions::kAsk has read() wait for follow(). A lane that shows 0 is being emptied, or somebody wrote over it:
// nothing is read, and nothing that was followed before is forgotten.
//
// Thread safety: one thread. Errors: results, nothing throws.
#pragma once

#include <cstdint>

#include "layout/section.h"
#include "wire/message.h"

namespace shunt::window {

enum class ReadResult {
  kEmpty,
  kMessage,
  kBadEntry,  // one entry was skipped
  kBadLane,   // told once for each generation; the lane then reads as empty
};

enum class Sessions { kFollow, kAsk };

class QueueReader {
 public:
  // Reads the lane for partition `own_number` in the section of `producer`, and acknowledges in `own`. Both
  // numbers come from the partition table: what a section says of itself, others may have written. What the
  // lane holds now was meant for an earlier life of this partition's driver and is skipped.
  QueueReader(layout::Section* own, std::uint32_t own_number, const layout::Section* producer,
              std::uint32_t producer_number, const layout::SectionGeometry& geometry,
              Sessions sessions = Sessions::kFollow);

  ReadResult read(wire::MessageBytes* out);

  // The session that is followed and acknowledged; 0: the producer never ran.
  std::uint64_t producer_session() const { return session_; }
  // Whether the producer has begun another one. Until that is followed, kAsk reads nothing.
  bool new_session() const;
  // `session`: of the producer, as the caller has looked at it. From its first message on; nothing if it is
  // followed already, or 0. Should the lane show yet another one by now, nothing of it is read.
  void follow(std::uint64_t session);

  // Acknowledges once more what was read: others may have written over it, and a producer that finds another session
  // there takes the whole lane for unread.
  void mend();

  // Whether read() may find something; the check before going to sleep.
  bool has_news() const;

 private:
  void begin(std::uint64_t session, std::uint64_t tail);
  bool copy_message(std::uint64_t position, wire::MessageBytes* out) const;

  const layout::Section* producer_;
  const layout::LaneControl& lane_;
  layout::LaneAck& ack_;
  layout::SectionGeometry geometry_;
  std::uint32_t lane_index_;
  Sessions sessions_;
  std::uint64_t session_ = 0;
  std::uint64_t tail_ = 0;
  bool broken_ = false;
};

}  // namespace shunt::window
