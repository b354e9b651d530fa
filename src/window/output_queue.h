// OutputQueue: the producing side of a partition's output queue, in its own section.
//
// One lane for each other partition. push() copies a message into a buffer of the own section,
// describes the buffer in the lane's next entry and publishes the entry with the head counter.
//
// Invariants: positions are private; the section only shows them. A lane never holds more than
// lane_entries unread messages. A lane's *session* (the driver's generation, unless restart_lane() said otherwise)
// tells readers which life its positions belong to. What the reader acknowledges is untrusted: an acknowledgement for
// another session counts as none, one beyond what was sent makes the lane unusable.
//
// Thread safety: one thread. Errors: results, nothing throws after construction.
#pragma once

#include <cstdint>
#include <vector>

#include "layout/section.h"
#include "wire/message.h"

namespace shunt::window {

enum class PushResult {
  kPushed,
  kFull,    // the reader is behind; try again when it has read
  kBadAck,  // the reader acknowledges what was never sent
};

class OutputQueue {
 public:
  // Empties every lane for the session `session` (not 0). `own` must outlive the queue; `own_number` comes from
  // the partition table.
  OutputQueue(layout::Section* own, std::uint32_t own_number,
              const layout::SectionGeometry& geometry, std::uint64_t session);

  // `reader`: the section of partition `destination`.
  PushResult push(std::uint32_t destination, const layout::Section* reader,
                  const wire::MessageBytes& message);
  PushResult room(std::uint32_t destination, const layout::Section* reader) const;

  // Empties one lane: what was not read of it is never read, and a reader that comes back from a pause finds a
  // new session. `session`: not 0, and not one that the lane had before.
  void restart_lane(std::uint32_t destination, std::uint64_t session);
  // Writes once more where the lanes end: others may have written over it. Not their sessions, which are over if
  // somebody did that.
  void mend();
  std::uint64_t session(std::uint32_t destination) const { return sessions_[destination - 1]; }

 private:
  layout::Section* own_;
  layout::SectionGeometry geometry_;
  std::uint32_t own_number_;
  std::vector<std::uint64_t> sessions_;  // [destination - 1]
  std::vector<std::uint64_t> heads_;     // likewise
};

}  // namespace shunt::window
