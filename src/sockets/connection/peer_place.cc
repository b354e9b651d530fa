#include "sockets/connection/peer_place.h"

#include <cstring>

#include "ring/writer.h"
#include "sockets/arenas/links.h"
#include "sockets/connection/areas.h"
#include "sockets/connection/carriage.h"

namespace shunt::sockets {
namespace {

// A fork came first: both processes have set the same addresses aside, and the mapping is this connection's alone.
ring::PeerArea map_reserved(Connection* c, const wire::Message& m, int fd) {
  const layout::ArenaShape shape{static_cast<std::uint32_t>(m.area.length)};
  if (fd < 0 || shape.bytes() > c->reserved_bytes) return nullptr;
  const auto* arena = map_arena_at(fd, m.arena, shape.places, const_cast<void*>(c->reserved));
  if (arena == nullptr) {
    c->reserved = nullptr;
    return nullptr;
  }
  return checked_place(arena, shape, static_cast<std::uint32_t>(m.area.offset), m.generation);
}

// Held once more than by the own arena. A connection that several processes share has come by it after the fork: the
// count is this process's, and the own arena, which all of them hold, is enough.
void use_peer_place(Connection* c, const PlaceRef& peer) {
  c->peer_place = peer;
  c->peer_place_held = c->reserved == nullptr;
  if (!c->peer_place_held) drop(peer.arena);
}

// The place whose area says that it answers this connection's. No arena: there is none.
PlaceRef answering(const Connection* c) {
  const PlaceRef& own = c->own_place;
  if (own.arena == nullptr) return {};
  const std::uint32_t generation = c->own->header.generation;
  const std::uint32_t count = own.arena->known_count.load(std::memory_order_acquire);
  for (std::uint32_t i = 0; i < count; ++i) {
    Arena* theirs = own.arena->known[i].load(std::memory_order_relaxed);
    if (own.index >= theirs->shape.places) continue;
    const layout::Area* area = control_at(theirs->header, theirs->shape, own.index);
    // Acquire: the area was made before that was said.
    if (__atomic_load_n(&area->header.answers, __ATOMIC_ACQUIRE) == generation)
      return {theirs, own.index};
  }
  return {};
}

}  // namespace

ring::PeerArea checked_place(const layout::ArenaHeader* arena, layout::ArenaShape shape,
                             std::uint32_t index, std::uint32_t generation) {
  const layout::Area* area = control_at(arena, shape, index);
  // The private copy is what is checked.
  layout::AreaHeader header;
  std::memcpy(&header, &area->header, sizeof header);
  if (!ring::valid_header(header, generation, ring::Form::kPlace)) return nullptr;
  return {area, segments_at(arena, shape, index)};
}

ring::PeerArea answered_place(Connection* c, const wire::Message& m, int fd) {
  if (m.area.length > layout::kPlacesMax || m.area.offset >= m.area.length) return nullptr;
  const auto places = static_cast<std::uint32_t>(m.area.length);
  const auto index = static_cast<std::uint32_t>(m.area.offset);
  PlaceRef peer;
  const bool forked = c->reserved != nullptr;
  const Answered answered{forked ? -1 : fd, m.arena, places, index};
  if (!take_answer(c->own_place, answered, &peer)) return forked ? map_reserved(c, m, fd) : nullptr;
  const ring::PeerArea area =
      checked_place(peer.arena->header, peer.arena->shape, index, m.generation);
  // It is held either way, until the connection ends.
  use_peer_place(c, peer);
  return area;
}

// The area in a place that answers, and its generation. `control` null: it is none.
static ring::PeerArea answer_in(const PlaceRef& peer, std::uint32_t* generation) {
  const Arena* a = peer.arena;
  const layout::AreaHeader& header = control_at(a->header, a->shape, peer.index)->header;
  *generation = __atomic_load_n(&header.generation, __ATOMIC_RELAXED);
  if (*generation == 0) return nullptr;
  return checked_place(a->header, a->shape, peer.index, *generation);
}

bool reserve_for_peer(Connection* c) {
  const Arena* arena = c->own_place.arena;
  c->reserved_bytes = arena != nullptr ? arena->shape.bytes() : c->map_bytes;
  c->reserved = reserve_memory(c->reserved_bytes);
  if (c->reserved != nullptr) return true;
  c->reserved = c;  // no memory object fits into nothing
  c->reserved_bytes = 0;
  return false;
}

bool has_answered(const Connection* c) {
  return c->peer.load(std::memory_order_acquire) == nullptr && answering(c).arena != nullptr;
}

bool answered_well(const Connection* c) {
  const PlaceRef peer = answering(c);
  std::uint32_t generation = 0;
  return peer.arena != nullptr && answer_in(peer, &generation).control != nullptr;
}

bool find_answer(Connection* c) {
  if (c->peer.load(std::memory_order_acquire) != nullptr) return true;
  const PlaceRef peer = answering(c);
  if (peer.arena == nullptr) return false;
  std::uint32_t generation = 0;
  const ring::PeerArea area = answer_in(peer, &generation);
  if (area.control == nullptr) return false;  // it lies
  hold(peer.arena);
  use_peer_place(c, peer);
  c->reader.generation = generation;
  connected(c, area);
  return true;
}

}  // namespace shunt::sockets
