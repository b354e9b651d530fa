// Arenas as this process has them: memory objects with places for the areas of many connections (layout/arena.h).
//
// An own arena is made and written here; a peer's is mapped for reading after its descriptor and header were checked.
// Whose connections may lie together in an arena is the business of links.h (connecting side) and pairs.h (accepting
// side): those of one process and one listener, and of nobody else.
//
// A place is
//
//   free      ours to give to a connection
//   used      a connection's
//   waiting   ours is over, and the other end still reads, as far as we know: free when its arena says so
//   lost      nobody will ever say so (it never answered, was killed, or a fork has left several holders): never used
//             again; its memory goes with the arena
//
// so a place is never taken from a reader, and nothing depends on knowing who is alive.
//
// Lifetime: an Arena lives as long as somebody holds it: a table of links or pairs, a connection's end, a waiting place
// whose peer's arena it is. With the last one its memory is unmapped. Memory of Arenas is type-stable.
// Thread safety: every function wants ArenasLocked held, unless it says otherwise. Errors: nullptr or false.
#pragma once

#include <cstdint>

#include "layout/arena.h"
#include "sockets/thread/lock.h"

namespace shunt::sockets {

struct Arena;

enum class PlaceState : std::uint8_t { kFree, kUsed, kWaiting, kLost };

struct Place {
  std::uint32_t generation;  // of the area
  std::uint32_t peer_index;  // waiting: the place of the connection's other end in `peer`
  Arena* peer;               // waiting: held
  std::uint64_t touched;     // bit i: segment i may have pages
  std::uint32_t kept_bytes;  // at most so much in them, and counted as kept: free
  PlaceState state;
  bool told;  // the other side has been told of it
};

struct Arena {
  layout::ArenaHeader* own;  // null: a peer's
  const layout::ArenaHeader* header;
  layout::ArenaShape shape;
  wire::ArenaId id;
  std::uint32_t holders;
  // ---- own arenas only ----
  Place* places;
  Place single;              // `places` of an arena with one
  std::uint32_t used;        // places in that state
  std::uint32_t cursor;      // the place given last
  std::uint32_t generation;  // given last
  int fd;                    // opened for reading; -1: closed
  std::uint32_t senders;     // calls that are sending `fd`
  bool retired;              // no new connection gets a place
  bool forked;               // several processes use it: no peer's arena is remembered any more
  Arena* known[layout::kKnownArenas];  // held: who answered (header->known)
  std::uint32_t known_count;
  Arena* next_free;
};

// A place in an arena: what a connection's end has. Of the own arena, or of the peer's.
struct PlaceRef {
  Arena* arena = nullptr;
  std::uint32_t index = 0;
};

class ArenasLocked {
 public:
  ArenasLocked();
  ~ArenasLocked();
  ArenasLocked(const ArenasLocked&) = delete;
  ArenasLocked& operator=(const ArenasLocked&) = delete;

 private:
  SignalsBlocked blocked_;
};

// An own arena, held once, with an open descriptor. As many places as asked for, or nullptr: no memory, no descriptor,
// no addresses, or a limit of the process (RLIMIT_FSIZE, which would send a signal) is in the way.
Arena* make_arena(std::uint32_t places);
// A peer's, held once. `fd` stays the caller's. nullptr: it is not what it says (seals, size, file system, header).
// `at`: as in map_area(); needs no lock.
Arena* map_arena(int fd, const wire::ArenaId& id, std::uint32_t places);
// The mapping alone, in place of addresses that were set aside and are gone if it fails. Needs no lock.
const layout::ArenaHeader* map_arena_at(int fd, const wire::ArenaId& id, std::uint32_t places,
                                        void* at);
void hold(Arena* arena);
void drop(Arena* arena);

// Its control and segments. Needs no lock.
layout::Area* own_control(const PlaceRef& place);
std::uint8_t* own_segments(const PlaceRef& place);
const layout::Area* control_at(const layout::ArenaHeader* arena, layout::ArenaShape shape,
                               std::uint32_t index);
const std::uint8_t* segments_at(const layout::ArenaHeader* arena, layout::ArenaShape shape,
                                std::uint32_t index);

// No new connection gets a place; the peer can see it. Its descriptor is closed when nobody is sending it.
void retire(Arena* arena);
void close_unsent(Arena* arena);

// Around fork(): before in the parent, and after in the child.
void arenas_before_fork();
void arenas_after_fork();
// Whether `fd` is one of the descriptors of own arenas. Needs no lock.
bool is_arena_fd(int fd);

}  // namespace shunt::sockets
