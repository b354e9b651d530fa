#include "ring/writer.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "base/untrusted.h"
#include "ring/fence.h"
#include "wire/version.h"

namespace shunt::ring {

using layout::kSegmentBytes;
using layout::kSegmentCount;

namespace {
constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr auto kAcquire = std::memory_order_acquire;
constexpr auto kRelease = std::memory_order_release;

// After this many segments in a row filled while at most one was unread, the rest is given back.
constexpr std::uint32_t kSmallLapsBeforeShrink = 1024;

// Atomic words and not memset: a reader of an earlier connection may look at them meanwhile.
void clear_but_generations(layout::Area* own) {
  using Word [[gnu::may_alias]] = std::uint64_t;
  constexpr std::size_t kHeader = offsetof(layout::Area, header.generation) & ~std::size_t{7};
  constexpr std::size_t kHot = offsetof(layout::Area, hot.generation) & ~std::size_t{7};
  auto* words = reinterpret_cast<Word*>(own);
  for (std::size_t at = 0; at < sizeof(layout::Area); at += sizeof(Word)) {
    if (at != kHeader && at != kHot) __atomic_store_n(words + at / 8, 0, __ATOMIC_RELAXED);
  }
  own->hot.recv_waiting.store(0, kRelaxed);  // shares its word with the generation
}
}  // namespace

void init_area(layout::Area* own, std::uint32_t generation, Form form) {
  __atomic_store_n(&own->header.generation, 0, __ATOMIC_RELAXED);
  own->hot.generation.store(0, kRelaxed);
  // Who sees anything of what follows also sees a 0: pairs with the fence in still_current(), and with the
  // acquire load of head in Reader::refresh().
  full_fence();
  clear_but_generations(own);
  own->header.magic = layout::kAreaMagic;
  own->header.version = wire::kLayoutVersion;
  own->header.header_bytes = sizeof(layout::AreaHeader);
  own->header.segment_bytes = kSegmentBytes;
  own->header.segment_count = kSegmentCount;
  if (form == Form::kWhole) {
    own->header.segments_offset = layout::kSegmentsOffset;
    own->header.area_bytes = layout::kAreaBytes;
  }
  // Whoever reads the new generation reads the fields above: pairs with the message that tells the generation.
  full_fence();
  own->hot.generation.store(generation, kRelaxed);
  __atomic_store_n(&own->header.generation, generation, __ATOMIC_RELAXED);
}

bool valid_header(const layout::AreaHeader& h, std::uint32_t generation, Form form) {
  const bool whole = form == Form::kWhole;
  return h.magic == layout::kAreaMagic && h.version == wire::kLayoutVersion &&
         h.header_bytes == sizeof(layout::AreaHeader) && h.generation == generation &&
         h.segment_bytes == kSegmentBytes && h.segment_count == kSegmentCount &&
         h.segments_offset == (whole ? layout::kSegmentsOffset : 0) &&
         h.area_bytes == (whole ? layout::kAreaBytes : 0);
}

void Writer::set_limit(std::uint64_t bytes) {
  s_->limit = std::clamp<std::uint64_t>(bytes, std::uint64_t{kMinSegments} * kSegmentBytes,
                                        layout::kStreamBytes);
}

bool Writer::is_free(std::uint32_t index) const {
  // Strictly beyond its end: a reader that has read a segment to the end still needs its link; the
  // first byte read of the following segment shows that it has moved on.
  return s_->tail > s_->base[index] + kSegmentBytes;
}

void Writer::enter(std::uint32_t index) {
  assert(index < kSegmentCount && (s_->members >> index & 1) != 0);
  layout::SegmentControl& c = own_->segment[index];
  s_->base[index] = s_->head;
  s_->segment = index;
  s_->offset = 0;
  // Relaxed: the release store of head in publish() makes them visible before the segment is
  // reachable, and its former lap has been read (is_free), so nobody reads them now.
  c.begin.store(0, kRelaxed);
  c.end.store(0, kRelaxed);
  c.length.store(0, kRelaxed);
  c.last.store(0, kRelaxed);
  c.base.store(s_->head, kRelaxed);
}

// Moves on from a full segment: to the next one if it has been read, else to a new one linked in
// between. False: the reader must catch up first.
bool Writer::enter_next_segment(Status* status) {
  if (s_->members == 0) {
    s_->members = 1;
    s_->next[0] = 0;
    own_->segment[0].next.store(0, kRelaxed);
    enter(0);
    return true;
  }
  const std::uint32_t current = s_->segment;
  std::uint32_t following = s_->next[current];
  // Once for each segment, also where an old tail would do: a reader that keeps up must be noticed,
  // or a buffer that has grown stays large.
  *status = refresh();
  if (*status != Status::kOk) return false;
  s_->small_laps = in_flight() <= kSegmentBytes ? s_->small_laps + 1 : 0;
  if (!is_free(following)) {
    if (segments() * std::uint64_t{kSegmentBytes} >= s_->limit) return false;
    const auto fresh = static_cast<std::uint32_t>(__builtin_ctzll(~s_->members));
    s_->members |= std::uint64_t{1} << fresh;
    s_->released &= ~(std::uint64_t{1} << fresh);
    s_->next[fresh] = static_cast<std::uint8_t>(following);
    own_->segment[fresh].next.store(following, kRelaxed);
    s_->next[current] = static_cast<std::uint8_t>(fresh);
    own_->segment[current].next.store(fresh, kRelaxed);
    following = fresh;
  } else if (s_->small_laps >= kSmallLapsBeforeShrink) {
    shrink();
    following = s_->next[current];
    if (!is_free(following)) return false;
  }
  enter(following);
  return true;
}

std::size_t Writer::append(const std::uint8_t* data, std::size_t size, Status* status) {
  *status = Status::kOk;
  if (size == 0) return 0;
  if (space() < size) {
    *status = refresh();
    if (*status != Status::kOk || space() == 0) return 0;
  }
  if ((s_->members == 0 || s_->offset == kSegmentBytes) && !enter_next_segment(status)) return 0;
  const std::size_t room = std::min<std::uint64_t>(kSegmentBytes - s_->offset, space());
  const std::size_t n = std::min(size, room);
  std::memcpy(segments_.at(s_->segment) + s_->offset, data, n);
  s_->offset += static_cast<std::uint32_t>(n);
  s_->head += n;
  assert(s_->head - s_->base[s_->segment] == s_->offset && s_->offset <= kSegmentBytes);
  assert(in_flight() <= layout::kStreamBytes);
  layout::SegmentControl& c = own_->segment[s_->segment];
  c.end.store(s_->offset, kRelaxed);
  c.length.store(s_->offset, kRelaxed);
  return n;
}

// A message that fits goes into the hot line too, so that a reader who is not behind needs one
// transfer. Safe to overwrite: tail == start means the reader is done with every earlier byte.
void Writer::publish_inline(std::uint64_t start) {
  const std::uint64_t n = s_->head - start;
  layout::HotLine& hot = own_->hot;
  const std::uint8_t* from = segments_.at(s_->segment) + s_->offset - n;
  std::uint64_t word = 0;
  for (std::uint64_t at = 0; at < n; at += 8) {
    std::memcpy(&word, from + at, std::min<std::uint64_t>(8, n - at));
    hot.inline_data[at / 8].store(word, kRelaxed);
  }
  hot.inline_start.store(start, kRelaxed);
  hot.inline_bytes.store(static_cast<std::uint16_t>(n), kRelaxed);
}

void Writer::publish() {
  assert(s_->published - s_->tail <= in_flight());
  const std::uint64_t start = s_->published;
  const std::uint64_t n = s_->head - start;
  if (n == 0) return;
  own_->segment[s_->segment].last.store(1, kRelaxed);
  if (n <= layout::kInlineBytes && n <= s_->offset && s_->tail == start) publish_inline(start);
  // Acquire and release: what a thread of ours has read before this tail, it has read before the
  // peer learns the tail in take_echo() and overwrites it.
  own_->hot.tail_echo.store(own_->tail.tail.load(kAcquire), kRelease);
  s_->published = s_->head;
  // Release: pairs with the acquire load in Reader::refresh(); orders data, links and inline bytes.
  own_->hot.head.store(s_->head, kRelease);
}

Status Writer::refresh() {
  if (peer_ == nullptr) return Status::kOk;
  // Acquire: pairs with Reader's release store; what it read, it has read before we overwrite it.
  const std::uint64_t tail = Untrusted(peer_->tail.tail).copy_acquire();
  if (tail - s_->tail > s_->published - s_->tail) return Status::kCorrupt;
  s_->tail = tail;
  return Status::kOk;
}

void Writer::take_echo() {
  if (peer_ == nullptr) return;
  const std::uint64_t tail = Untrusted(peer_->hot.tail_echo).copy_acquire();
  // Older than what we know: normal. Beyond what we published: refresh() will find out.
  if (tail - s_->tail <= s_->published - s_->tail) s_->tail = tail;
}

bool Writer::writable() {
  const std::uint64_t quarter = s_->limit / 4;
  if (space() >= quarter) {
    // Enough bytes; but a whole segment must be enterable too.
    if (s_->members == 0 || s_->offset < kSegmentBytes) return true;
    if (is_free(s_->next[s_->segment])) return true;
    if (segments() * std::uint64_t{kSegmentBytes} < s_->limit) return true;
  }
  return false;
}

std::size_t Writer::written(std::uint64_t position, const std::uint8_t** at) const {
  if (position - s_->tail >= in_flight()) return 0;
  for (std::uint32_t i = 0; i < layout::kSegmentCount; ++i) {
    if ((s_->members >> i & 1) == 0 || position - s_->base[i] >= kSegmentBytes) continue;
    *at = segments_.at(i) + (position - s_->base[i]);
    return std::min(kSegmentBytes - (position - s_->base[i]), s_->head - position);
  }
  return 0;
}

bool Writer::must_ring() {
  if (peer_ == nullptr) return false;
  full_fence();  // publish before looking whether the peer sleeps; pairs with Reader::begin_wait
  const std::uint32_t epoch = Untrusted(peer_->hot.recv_waiting).copy();
  if ((epoch & 1) == 0 || epoch == s_->rung_epoch) return false;
  s_->rung_epoch = epoch;
  return true;
}

void Writer::set_flags(std::uint16_t flags) {
  // Release: a reader that sees the flag sees the final head too.
  own_->hot.flags.fetch_or(flags, kRelease);
}

void Writer::begin_wait() {
  s_->wait_epoch = (s_->wait_epoch + 1) | 1;  // a new odd number, also when it was odd
  own_->hot.send_waiting.store(s_->wait_epoch, kRelaxed);
  full_fence();  // announce before looking at tail again; pairs with Reader::must_ring
}

void Writer::end_wait() {
  if ((s_->wait_epoch & 1) == 0) return;
  ++s_->wait_epoch;
  own_->hot.send_waiting.store(s_->wait_epoch, kRelaxed);
}

void Writer::shrink() {
  s_->small_laps = 0;
  // The reader is inside the current segment: nothing unread and no link needed elsewhere.
  if (segments() <= kMinSegments || in_flight() >= s_->offset) return;
  const std::uint32_t current = s_->segment;
  const std::uint32_t keep = s_->next[current];
  const std::uint64_t kept = (std::uint64_t{1} << current) | (std::uint64_t{1} << keep);
  s_->released |= s_->members & ~kept;
  s_->members = kept;
  assert(segments() == kMinSegments);
  s_->next[keep] = static_cast<std::uint8_t>(current);
  own_->segment[keep].next.store(current, kRelaxed);
}

std::uint64_t Writer::take_released() {
  const std::uint64_t bits = s_->released;
  s_->released = 0;
  return bits;
}

}  // namespace shunt::ring
