// Giving places of an own arena to connections, and taking them back.
//
// Thread safety: any thread, without ArenasLocked; async-signal-safe. The caller holds the arena.
#pragma once

#include <cstdint>

#include "sockets/arenas/arena.h"

namespace shunt::sockets {

// A free place, and the generation of the area that was made in it (ring::init_area). The place holds the arena
// once more. Places are given in turn, so that one that has just become free, and the port that was used with it,
// rests for a while; but no more of them than were needed at once before (or 16), because places in use are warm.
// False: none is free.
bool take_any(Arena* own, PlaceRef* place, std::uint32_t* generation);
// A certain one, because the other side says that it has let go of it. kNo: a connection has it, or it is lost.
// kBusy: it is about to be free, and the thread that is at it was not seen to end.
enum class Taken : std::uint8_t { kYes, kNo, kBusy };
Taken take(Arena* own, std::uint32_t index, std::uint32_t* generation);

// The end of a connection's end.
struct Ended {
  PlaceRef own;
  PlaceRef peer;                      // arena null: it never answered, or has no place
  bool peer_held = false;             // by the connection
  std::uint32_t peer_generation = 0;  // of the area there
  bool last = false;                  // no other process holds this end
  bool peer_gone = false;             // nobody holds the other end, says the kernel
  std::uint64_t written = 0;          // bytes of the own stream
  std::uint64_t segments = 0;         // of the own stream that came into use, as bits
};
// The connection has let go of both; says so to the peer, and drops what the connection held.
void let_go(const Ended& ended);

// Looks at up to `count` places whether those that wait can be free.
void settle_waiting(Arena* own, std::uint32_t count);
// Whether waiting places have so much memory that it should be looked for which of them can be free.
bool too_much_waits();

// The kernel may give the port to somebody else. Of one that has none: nothing.
void release_port(HeldPort* port);

// For arena.cc: the place goes with its arena.
void forget_kept(Place* place);

}  // namespace shunt::sockets
