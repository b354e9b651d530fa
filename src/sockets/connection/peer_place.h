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
// A racy look whether the other side has answered by its area alone, which rings nothing. So whoever is about to sleep
// and does not know the peer's area yet announces that, and looks here: if he finds nothing, the other side finds the
// announcement when it has something to tell, because it answers before. Then look_at_bell().
bool has_answered(const Connection* c);
// The same, and its area is one: find_answer() will take it.
bool answered_well(const Connection* c);
// Looks whether the other side has answered by its area alone. With the connection's bell lock. True: it has, now or
// before.
bool find_answer(Connection* c);
// Sets the addresses of the peer's area aside (Connection::reserved), for a process that may not get them later, or that
// is about to share the connection. False: there are none; an answer will reset the connection.
bool reserve_for_peer(Connection* c);
// What CONNECTED names. `fd`: of the arena; -1: none came along. `c` holds the place then.
ring::PeerArea answered_place(Connection* c, const wire::Message& connected, int fd);

}  // namespace shunt::sockets
