#include "sockets/connection/peer_place.h"

#include <cstring>

#include "ring/writer.h"
#include "sockets/arenas/links.h"

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
  const bool known = take_answer(c->own_place, {c->reserved != nullptr ? -1 : fd, m.arena, places, index}, &peer);
  if (!known) return c->reserved != nullptr ? map_reserved(c, m, fd) : nullptr;
  const ring::PeerArea area =
      checked_place(peer.arena->header, peer.arena->shape, index, m.generation);
  // It is held either way, until the connection ends.
  c->peer_place = peer;
  return area;
}

}  // namespace shunt::sockets
