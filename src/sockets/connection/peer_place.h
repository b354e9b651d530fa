// The peer's area, where it is a place in an arena.
//
// Thread safety: the connection's bell lock, or nobody else has the connection yet. Errors: `control` null.
#pragma once

#include "sockets/arenas/arena.h"
#include "sockets/connection/connection.h"
#include "wire/message.h"

namespace shunt::sockets {

// The area in `place`, if it is that of the connection `generation`.
ring::PeerArea checked_place(const layout::ArenaHeader* arena, layout::ArenaShape shape,
                             std::uint32_t index, std::uint32_t generation);
// What CONNECTED names. `fd`: of the arena; -1: none came along. `c` holds the place then.
ring::PeerArea answered_place(Connection* c, const wire::Message& connected, int fd);

}  // namespace shunt::sockets
