#include "sockets/arenas/places.h"

#include <algorithm>
#include <cassert>

#include "base/untrusted.h"
#include "ring/writer.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

// Free places keep their pages for the next connection, which then finds them warm: up to so much each, and in all.
constexpr std::uint32_t kKeptOfPlace = 256 * 1024;
constexpr std::uint64_t kKeptInAll = 4 * 1024 * 1024;
std::uint64_t kept_bytes = 0;

void give_back(Arena* a, std::uint32_t index) {
  Place& p = a->places[index];
  std::uint8_t* segments = own_segments({a, index});
  while (p.touched != 0) {
    // A run of set bits at a time.
    const auto first = static_cast<std::uint32_t>(__builtin_ctzll(p.touched));
    const std::uint64_t above = ~(p.touched >> first);
    const std::uint32_t length =
        above == 0 ? 64 : static_cast<std::uint32_t>(__builtin_ctzll(above));
    sys::madvise(segments + std::uint64_t{first} * layout::kSegmentBytes,
                 std::size_t{length} * layout::kSegmentBytes, MADV_REMOVE);
    const std::uint64_t run = length >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << length) - 1;
    p.touched &= ~(run << first);
  }
}

void make_free(Arena* a, std::uint32_t index, std::uint64_t bytes) {
  Place& p = a->places[index];
  p.state = PlaceState::kFree;
  if (p.touched == 0) return;
  const auto segments = static_cast<std::uint64_t>(__builtin_popcountll(p.touched));
  const std::uint64_t size = std::min(bytes, segments * layout::kSegmentBytes);
  if (size > kKeptOfPlace || kept_bytes + size > kKeptInAll) {
    give_back(a, index);
    return;
  }
  p.kept_bytes = static_cast<std::uint32_t>(size);
  kept_bytes += size;
}

// Whether the other end has let go of what is in the place.
bool let_go_there(const Place& p) {
  const std::atomic<std::uint32_t>* words = layout::released(p.peer->header);
  // Acquire: it has read all that it wanted; pairs with let_go().
  return Untrusted(words[p.peer_index]).copy_acquire() == p.generation;
}

void end_waiting(Arena* a, std::uint32_t index) {
  Place& p = a->places[index];
  drop(p.peer);
  p.peer = nullptr;
  make_free(a, index, ~std::uint64_t{0});
}

std::uint32_t give(Arena* a, std::uint32_t index) {
  Place& p = a->places[index];
  assert(p.state == PlaceState::kFree);
  kept_bytes -= p.kept_bytes;
  if (++a->generation == 0) ++a->generation;
  p.generation = a->generation;
  p.state = PlaceState::kUsed;
  p.told = false;
  ++a->used;
  hold(a);
  ring::init_area(own_control({a, index}), p.generation, ring::Form::kPlace);
  return p.generation;
}

}  // namespace

void forget_kept(Place* p) {
  if (p->state == PlaceState::kFree) kept_bytes -= p->kept_bytes;
  p->kept_bytes = 0;
}

bool take_any(Arena* own, PlaceRef* place, std::uint32_t* generation) {
  if (own->retired) return false;
  for (std::uint32_t n = 1; n <= own->shape.places; ++n) {
    const std::uint32_t index = (own->cursor + n) % own->shape.places;
    const Place& p = own->places[index];
    if (p.state == PlaceState::kWaiting && let_go_there(p)) end_waiting(own, index);
    if (p.state != PlaceState::kFree) continue;
    own->cursor = index;
    *place = {own, index};
    *generation = give(own, index);
    return true;
  }
  return false;
}

bool take(Arena* own, std::uint32_t index, std::uint32_t* generation) {
  if (index >= own->shape.places || own->retired) return false;
  if (own->places[index].state == PlaceState::kWaiting) end_waiting(own, index);
  if (own->places[index].state != PlaceState::kFree) return false;
  *generation = give(own, index);
  return true;
}

void let_go(const Ended& e) {
  Arena* own = e.own.arena;
  Place& p = own->places[e.own.index];
  assert(p.state == PlaceState::kUsed);
  --own->used;
  p.touched |= e.segments;
  const std::uint64_t bytes = e.written + p.kept_bytes;
  p.kept_bytes = 0;
  if (e.last && e.peer.arena != nullptr) {
    // Release: we have read all that we wanted; pairs with let_go_there().
    layout::released(own->own)[e.own.index].store(e.peer_generation, std::memory_order_release);
    p.state = PlaceState::kWaiting;
    p.peer = e.peer.arena;  // what the connection held
    p.peer_index = e.peer.index;
    if (let_go_there(p)) {
      drop(p.peer);
      p.peer = nullptr;
      make_free(own, e.own.index, bytes);
    }
  } else {
    if (e.last && !p.told) {
      make_free(own, e.own.index, bytes);
    } else {
      p.state = PlaceState::kLost;
    }
    if (e.peer.arena != nullptr) drop(e.peer.arena);
  }
  drop(own);
}

void settle_waiting(Arena* own, std::uint32_t count) {
  for (std::uint32_t n = 0; n < std::min(count, own->shape.places); ++n) {
    own->cursor = (own->cursor + 1) % own->shape.places;
    const Place& p = own->places[own->cursor];
    if (p.state == PlaceState::kWaiting && let_go_there(p)) end_waiting(own, own->cursor);
  }
}

}  // namespace shunt::sockets
