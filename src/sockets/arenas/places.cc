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
constexpr std::uint32_t kTurningLeast = 16;
std::atomic<std::uint64_t> kept_bytes{0};
// Nor do more than so many free places keep their ports.
constexpr std::uint32_t kKeptPorts = 256;
std::atomic<std::uint32_t> kept_ports{0};
// What has been written into waiting places, and may be unread.
constexpr std::uint64_t kWaitingInAll = 16 * 1024 * 1024;
std::atomic<std::uint64_t> waiting_bytes{0};

constexpr auto kRelaxed = std::memory_order_relaxed;

void give_back(Arena* a, std::uint32_t index) {
  Place& p = a->places[index];
  const ring::Segments<std::uint8_t> segments = own_segments({a, index});
  if ((p.touched & 1) != 0) sys::madvise(segments.first, layout::kSegmentBytes, MADV_REMOVE);
  p.touched &= ~std::uint64_t{1};
  while (p.touched != 0) {
    // A run of set bits at a time.
    const auto first = static_cast<std::uint32_t>(__builtin_ctzll(p.touched));
    const std::uint64_t above = ~(p.touched >> first);
    const std::uint32_t length =
        above == 0 ? 64 : static_cast<std::uint32_t>(__builtin_ctzll(above));
    sys::madvise(segments.at(first), std::size_t{length} * layout::kSegmentBytes, MADV_REMOVE);
    const std::uint64_t run = length >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << length) - 1;
    p.touched &= ~(run << first);
  }
}

// False: no more may be kept.
bool keep(std::uint64_t size) {
  if (size > kKeptOfPlace) return false;
  if (kept_bytes.fetch_add(size, kRelaxed) + size <= kKeptInAll) return true;
  kept_bytes.fetch_sub(size, kRelaxed);
  return false;
}

void keep_port(Arena* a, HeldPort* port) {
  if (port->source.port == 0) return;
  if (kept_ports.fetch_add(1, kRelaxed) < kKeptPorts && !a->retired.load(kRelaxed)) return;
  kept_ports.fetch_sub(1, kRelaxed);
  release_port(port);
}

// Busy until now. Release: whoever takes the place finds what is said of it, and its pages.
void make_free(Arena* a, std::uint32_t index, std::uint64_t bytes) {
  Place& p = a->places[index];
  assert(p.state.load(kRelaxed) == PlaceState::kBusy && p.kept_bytes == 0);
  keep_port(a, &p.port);
  if (p.touched != 0) {
    const auto segments = static_cast<std::uint64_t>(__builtin_popcountll(p.touched));
    const std::uint64_t size = std::min(bytes, segments * layout::kSegmentBytes);
    if (!a->retired.load(kRelaxed) && keep(size)) {
      p.kept_bytes = static_cast<std::uint32_t>(size);
    } else {
      give_back(a, index);
    }
  }
  p.state.store(PlaceState::kFree, std::memory_order_release);
}

bool change(Place& p, PlaceState from, PlaceState to) {
  return p.state.compare_exchange_strong(from, to, std::memory_order_acq_rel, kRelaxed);
}

// Whether the other end has let go of what is in the place.
bool let_go_there(const Place& p) {
  const std::atomic<std::uint32_t>* words = layout::released(p.peer->header);
  // Acquire: it has read all that it wanted; pairs with let_go().
  return Untrusted(words[p.peer_index]).copy_acquire() == p.generation;
}

// Busy until now.
void end_waiting(Arena* a, std::uint32_t index) {
  Place& p = a->places[index];
  waiting_bytes.fetch_sub(p.kept_bytes, kRelaxed);
  p.kept_bytes = 0;
  drop(p.peer);
  p.peer = nullptr;
  make_free(a, index, ~std::uint64_t{0});
}

// A waiting place that the other end has let go of becomes free.
void settle(Arena* a, std::uint32_t index) {
  Place& p = a->places[index];
  if (p.state.load(std::memory_order_acquire) != PlaceState::kWaiting) return;
  // Busy before the look: `peer` is held as long as nobody else ends the waiting.
  if (!change(p, PlaceState::kWaiting, PlaceState::kBusy)) return;
  if (let_go_there(p)) {
    end_waiting(a, index);
  } else {
    p.state.store(PlaceState::kWaiting, std::memory_order_release);
  }
}

// Not a random number each: a place's generations differ, and those of different places are never compared.
std::uint32_t next_generation(Arena* a) {
  for (;;) {
    const std::uint32_t generation = a->generation.fetch_add(1, kRelaxed) + 1;
    if (generation != 0) return generation;
  }
}

bool give(Arena* a, std::uint32_t index, std::uint32_t* generation) {
  Place& p = a->places[index];
  if (!change(p, PlaceState::kFree, PlaceState::kUsed)) return false;
  kept_bytes.fetch_sub(p.kept_bytes, kRelaxed);
  if (p.port.source.port != 0) kept_ports.fetch_sub(1, kRelaxed);
  p.generation = next_generation(a);
  p.told = false;
  a->users.fetch_add(1, kRelaxed);
  hold(a);
  ring::init_area(own_control({a, index}), p.generation, ring::Form::kPlace);
  *generation = p.generation;
  return true;
}

}  // namespace

void release_port(HeldPort* port) {
  const HeldPort held = *port;
  *port = {};  // first: a fork in between must not find it again
  if (held.page != nullptr) sys::munmap(held.page, kHeldPortBytes);
  if (held.fd != 0) sys::close(held.fd);
}

void forget_kept(Place* p) {
  const PlaceState state = p->state.load(std::memory_order_acquire);
  if (state == PlaceState::kWaiting) waiting_bytes.fetch_sub(p->kept_bytes, kRelaxed);
  if (state != PlaceState::kFree) return;
  kept_bytes.fetch_sub(p->kept_bytes, kRelaxed);
  p->kept_bytes = 0;
  if (p->port.source.port != 0) kept_ports.fetch_sub(1, kRelaxed);
}

bool take_any(Arena* own, PlaceRef* place, std::uint32_t* generation) {
  if (own->retired.load(std::memory_order_acquire)) return false;
  const std::uint32_t places = own->shape.places;
  const std::uint32_t turning =
      std::min(std::max(own->turning.load(kRelaxed), kTurningLeast), places);
  const auto try_place = [&](std::uint32_t index) {
    settle(own, index);
    if (!give(own, index, generation)) return false;
    *place = {own, index};
    return true;
  };
  const std::uint32_t from = own->cursor.load(kRelaxed);
  for (std::uint32_t n = 1; n <= turning; ++n) {
    const std::uint32_t index = (from + n) % turning;
    if (!try_place(index)) continue;
    own->cursor.store(index, kRelaxed);
    return true;
  }
  for (std::uint32_t index = turning; index < places; ++index) {
    if (!try_place(index)) continue;
    own->turning.store(index + 1, kRelaxed);
    return true;
  }
  return false;
}

Taken take(Arena* own, std::uint32_t index, std::uint32_t* generation) {
  constexpr int kPatience = 100;
  if (index >= own->shape.places) return Taken::kNo;
  Place& p = own->places[index];
  for (int i = 0; i < kPatience; ++i) {
    if (change(p, PlaceState::kWaiting, PlaceState::kBusy)) end_waiting(own, index);
    if (give(own, index, generation)) return Taken::kYes;
    const PlaceState now = p.state.load(std::memory_order_acquire);
    if (now == PlaceState::kUsed || now == PlaceState::kLost) return Taken::kNo;
    // Another thread is between two steps with it, and may have been preempted there.
    sys::sched_yield();
  }
  return Taken::kBusy;
}

bool too_much_waits() { return waiting_bytes.load(kRelaxed) > kWaitingInAll; }

void let_go(const Ended& e) {
  Arena* own = e.own.arena;
  Place& p = own->places[e.own.index];
  assert(p.state.load(kRelaxed) == PlaceState::kUsed);
  p.state.store(PlaceState::kBusy, kRelaxed);
  p.touched |= e.segments;
  const std::uint64_t bytes = e.written + p.kept_bytes;
  p.kept_bytes = 0;
  if (e.last && e.peer_held) {
    p.peer = e.peer.arena;  // what the connection held
    p.peer_index = e.peer.index;
    if (let_go_there(p)) {
      drop(p.peer);
      p.peer = nullptr;
      make_free(own, e.own.index, bytes);
    } else {
      // Nobody reads it any more, but the process there may still be about to let go of its own place.
      if (e.peer_gone) give_back(own, e.own.index);
      const auto segments = static_cast<std::uint64_t>(__builtin_popcountll(p.touched));
      p.kept_bytes = static_cast<std::uint32_t>(std::min(bytes, segments * layout::kSegmentBytes));
      waiting_bytes.fetch_add(p.kept_bytes, kRelaxed);
      p.state.store(PlaceState::kWaiting, std::memory_order_release);
    }
  } else {
    if (e.last && !p.told && e.peer.arena == nullptr) {
      make_free(own, e.own.index, bytes);
    } else {
      release_port(&p.port);
      p.state.store(PlaceState::kLost, std::memory_order_release);
    }
    if (e.peer_held) drop(e.peer.arena);
  }
  // Last, so that the other side finds our place ready when it names it again. Release: we have read all that we wanted;
  // pairs with let_go_there().
  if (e.last && e.peer.arena != nullptr)
    layout::released(own->own)[e.own.index].store(e.peer_generation, std::memory_order_release);
  own->users.fetch_sub(1, kRelaxed);
  drop(own);
}

void settle_waiting(Arena* own, std::uint32_t count) {
  for (std::uint32_t n = 0; n < std::min(count, own->shape.places); ++n) {
    settle(own, own->cursor.fetch_add(1, kRelaxed) % own->shape.places);
  }
}

}  // namespace shunt::sockets
