#include "ring/reader.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "base/untrusted.h"
#include "ring/current.h"
#include "ring/fence.h"

namespace shunt::ring {

using layout::kSegmentBytes;
using layout::kSegmentCount;

namespace {
constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr auto kRelease = std::memory_order_release;

// How many bytes may be consumed without a look at whether the writer sleeps.
//
// A writer sleeps only while at least kMinSegments - 1 segments are unread as it sees it. It sees at
// least the tail of our latest fence before its own, and after its fence our next one sees it asleep.
// So as long as it sleeps and we have not looked, less than kLookEveryBytes of those segments have
// been consumed: the rest is still unread, and reading it brings us to the next look.
constexpr std::uint64_t kLookEveryBytes = 16 * 1024;
static_assert(2 * kLookEveryBytes < (kMinSegments - 1) * std::uint64_t{kSegmentBytes});
}  // namespace

Status Reader::refresh() {
  const layout::HotLine& hot = peer_->hot;
  // Flags first: a fin seen with this load is after the final head, which the next load then sees.
  const std::uint16_t flags = Untrusted(hot.flags).copy_acquire();
  // Acquire: pairs with the release store in Writer::publish().
  const std::uint64_t head = Untrusted(hot.head).copy_acquire();
  if (Untrusted(hot.generation).copy() != s_->generation) return Status::kCorrupt;
  if (head - s_->tail > layout::kStreamBytes || head < s_->head) return Status::kCorrupt;
  s_->head = head;
  assert(available() <= layout::kStreamBytes);
  s_->flags |= flags;
  return Status::kOk;
}

bool Reader::next_segment(std::uint32_t from, std::uint64_t position, std::uint32_t* to) const {
  const layout::SegmentControl& c = peer_->segment[from];
  if (Untrusted(c.end).copy() != kSegmentBytes) return false;
  if (Untrusted(c.length).copy() != kSegmentBytes) return false;
  const std::uint32_t next = Untrusted(c.next).copy();
  if (next >= kSegmentCount) return false;
  if (Untrusted(peer_->segment[next].base).copy() != position) return false;
  *to = next;
  return true;
}

bool Reader::locate(std::uint64_t skip, std::uint32_t* segment, std::uint32_t* offset) const {
  std::uint32_t at = s_->segment;
  std::uint64_t from = s_->offset + skip;
  // Position of the end of segment `at`; at most kSegmentCount links, since skip < kStreamBytes.
  std::uint64_t end = s_->tail - s_->offset + kSegmentBytes;
  while (from >= kSegmentBytes) {
    if (!next_segment(at, end, &at)) return false;
    from -= kSegmentBytes;
    end += kSegmentBytes;
  }
  *segment = at;
  *offset = static_cast<std::uint32_t>(from);
  return true;
}

// The latest message straight from the hot line, if it is exactly what comes next.
std::size_t Reader::copy_inline(std::uint8_t* out, std::size_t size) {
  const layout::HotLine& hot = peer_->hot;
  const std::uint64_t n = Untrusted(hot.inline_bytes).copy();
  if (n == 0 || n > layout::kInlineBytes || n > size || n > available()) return 0;
  if (Untrusted(hot.inline_start).copy() != s_->tail) return 0;
  std::uint64_t word = 0;
  for (std::uint64_t at = 0; at < n; at += 8) {
    word = Untrusted(hot.inline_data[at / 8]).copy();
    std::memcpy(out + at, &word, std::min<std::uint64_t>(8, n - at));
  }
  return n;
}

// What was copied counts only if the area was this connection's all the time.
std::size_t Reader::copied(std::size_t size, Status* status) const {
  if (still_current(peer_, s_->generation)) return size;
  *status = Status::kCorrupt;
  return 0;
}

std::size_t Reader::copy(std::uint64_t skip, std::uint8_t* out, std::size_t size, Status* status) {
  *status = Status::kOk;
  if (skip >= available()) return 0;
  size = std::min<std::uint64_t>(size, available() - skip);
  if (skip == 0 && out != nullptr) {
    const std::size_t n = copy_inline(out, size);
    if (n != 0) return copied(n, status);
  }
  std::uint32_t segment = 0;
  std::uint32_t offset = 0;
  if (!locate(skip, &segment, &offset)) {
    *status = Status::kCorrupt;
    return 0;
  }
  const std::size_t n = std::min<std::size_t>(size, kSegmentBytes - offset);
  if (out == nullptr) return n;
  std::memcpy(out, segments_.at(segment) + offset, n);
  return copied(n, status);
}

Status Reader::consume(std::uint64_t size) {
  assert(size <= available() && s_->offset <= kSegmentBytes);
  std::uint32_t segment = s_->segment;
  std::uint64_t offset = s_->offset + size;
  if (offset > kSegmentBytes) {
    std::uint32_t at = 0;
    // Stay at the end of a segment until more is known to follow: its link may not exist yet.
    if (!locate(size - 1, &segment, &at)) return Status::kCorrupt;
    offset = at + 1;
  }
  if (segment != s_->segment) {
    own_->begin[s_->segment].store(kSegmentBytes, kRelaxed);
    s_->segment = segment;
  }
  s_->offset = static_cast<std::uint32_t>(offset);
  s_->tail += size;
  own_->begin[segment].store(s_->offset, kRelaxed);
  own_->tail.segment.store(segment, kRelaxed);
  // Release: our copies are done before the writer may overwrite; pairs with Writer::refresh().
  own_->tail.tail.store(s_->tail, kRelease);
  return Status::kOk;
}

std::size_t Reader::read(std::uint8_t* out, std::size_t size, Status* status) {
  *status = Status::kOk;
  std::size_t done = 0;
  while (done < size) {
    const std::size_t n = copy(0, out + done, size - done, status);
    if (n == 0) break;
    *status = consume(n);
    if (*status != Status::kOk) break;
    done += n;
  }
  return done;
}

bool Reader::must_ring_for_space() {
  return s_->tail - s_->looked >= kLookEveryBytes && must_ring();
}

bool Reader::must_ring() {
  s_->looked = s_->tail;
  full_fence();  // publish tail before looking whether the writer sleeps; pairs with begin_wait
  const std::uint32_t epoch = Untrusted(peer_->hot.send_waiting).copy();
  if ((epoch & 1) == 0 || epoch == s_->rung_epoch) return false;
  s_->rung_epoch = epoch;
  return true;
}

void Reader::begin_wait() {
  s_->wait_epoch = (s_->wait_epoch + 1) | 1;  // a new odd number, also when it was odd
  own_->hot.recv_waiting.store(s_->wait_epoch, kRelaxed);
  full_fence();  // announce before looking at head again; pairs with Writer::must_ring
}

void Reader::end_wait() {
  if ((s_->wait_epoch & 1) == 0) return;
  ++s_->wait_epoch;
  own_->hot.recv_waiting.store(s_->wait_epoch, kRelaxed);
}

}  // namespace shunt::ring
