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
//   busy      between two of these, in some thread
//
// so a place is never taken from a reader, and nothing depends on knowing who is alive.
//
// Lifetime: an Arena lives as long as somebody holds it: a table of links or pairs, a connection's end, a waiting place
// whose peer's arena it is, or the arena that it answers. With the last one its memory is unmapped. Memory of Arenas is
// type-stable, so that a table may be read while it changes: hold_if_alive(), then look again.
//
// Making and unmapping take ArenasLocked; what every connection does takes no lock and blocks no signal.
// Thread safety: any thread; async-signal-safe where ArenasLocked is not wanted. Errors: nullptr or false.
#pragma once

#include <atomic>
#include <cstdint>

#include "layout/arena.h"
#include "ring/state.h"
#include "sockets/thread/lock.h"
#include "sockets/thread/spin.h"
#include "wire/endpoint.h"

namespace shunt::sockets {

struct Arena;

enum class PlaceState : std::uint8_t { kFree, kUsed, kWaiting, kLost, kBusy };

// A local port that the kernel keeps for the connections in a place, one after another: by a socket that is mapped
// (`page`) or open (`fd`). See setup/port.h.
inline constexpr std::size_t kHeldPortBytes = 4096;
struct HeldPort {
  wire::Endpoint source;  // port 0: none
  void* page;
  int fd;  // 0: none
};

struct Place {
  std::atomic<PlaceState> state;
  bool told;  // the other side has been told of it
  std::uint32_t
      kept_bytes;  // free: at most so much in the pages that it keeps; waiting: so much may be unread
  std::uint32_t generation;  // of the area
  std::uint32_t peer_index;  // waiting: the place of the connection's other end in `peer`
  Arena* peer;               // waiting: held
  std::uint64_t touched;     // bit i: segment i may have pages
  HeldPort port;
};

// How the kernel calls users that have no number in this user namespace: anybody, and so nobody who is trusted.
inline constexpr std::uint32_t kNobody = 65534;

// Whom the connecting side has reached.
struct LinkKey {
  int pid = 0;  // as the kernel says it of the listener's socket; 0: in another pid namespace
  std::uint32_t uid = 0;
  std::uint32_t own_uid = 0;  // of this process, effective, when it connects
  wire::Endpoint destination;
  friend bool operator==(const LinkKey&, const LinkKey&) = default;
};

struct Arena {
  layout::ArenaHeader* own;  // null: a peer's
  const layout::ArenaHeader* header;
  layout::ArenaShape shape;
  wire::ArenaId id;
  std::atomic<std::uint32_t> holders;
  bool alone;                // addresses are limited: made for one connection
  std::atomic<bool> forked;  // several processes use it: no peer's arena is remembered any more
  std::atomic<Arena*> next_free;
  // ---- own arenas only ----
  Place* places;
  Place single;                       // `places` of an arena with one
  std::atomic<std::uint32_t> cursor;  // the place given last
  std::atomic<std::uint32_t>
      turning;  // places below are given in turn; further ones have not been needed
  std::atomic<std::uint32_t> generation;            // given last
  std::atomic<std::uint32_t> users;                 // places in use
  std::atomic<std::uint64_t> last_use;              // by a clock of the table that it is in
  SpinHabit read_habit;                             // of waiting for the process that answers
  std::atomic<bool> retired;                        // no new connection gets a place
  std::atomic<int> fd;                              // opened for reading; -1: closed
  std::atomic<std::uint32_t> senders;               // calls that are sending `fd`
  LinkKey listener;                                 // of a link
  std::atomic<Arena*> known[layout::kKnownArenas];  // of a link, held: who answered (header->known)
  std::atomic<std::uint32_t> known_count;
  Arena* theirs;  // of a pair, held: the arena that this one answers
};

// A place in an arena: what a connection's end has. Of the own arena, or of the peer's.
struct PlaceRef {
  Arena* arena = nullptr;
  std::uint32_t index = 0;
};

// Signals wait while it lives.
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
// no addresses, or a limit of the process (RLIMIT_FSIZE, which would send a signal) is in the way. With ArenasLocked.
Arena* make_arena(std::uint32_t places);
// A peer's, held once. `fd` stays the caller's. nullptr: it is not what it says (seals, size, file system, header).
// With ArenasLocked.
Arena* map_arena(int fd, const wire::ArenaId& id, std::uint32_t places);
// The mapping alone; `at`: in place of addresses that were set aside and are gone if it fails; null: anywhere.
const layout::ArenaHeader* map_arena_at(int fd, const wire::ArenaId& id, std::uint32_t places,
                                        void* at);

// For who has it from somebody that holds it. drop() unmaps after the last; with ArenasLocked or without.
void hold(Arena* arena);
void drop(Arena* arena);
// For who has it from a table. False: it is going, or gone.
bool hold_if_alive(Arena* arena);

// Its control and segments.
layout::Area* own_control(const PlaceRef& place);
ring::Segments<std::uint8_t> own_segments(const PlaceRef& place);
const layout::Area* control_at(const layout::ArenaHeader* arena, layout::ArenaShape shape,
                               std::uint32_t index);
ring::Segments<const std::uint8_t> segments_at(const layout::ArenaHeader* arena,
                                               layout::ArenaShape shape, std::uint32_t index);

// No new connection gets a place; the peer can see it. Its descriptor is closed when nobody is sending it.
void retire(Arena* arena);
// The descriptor to send, which stays open until end_sending(). -1: it is closed.
int begin_sending(Arena* arena);
void end_sending(Arena* arena);
// Closes it unless somebody is sending it.
void close_unsent(Arena* arena);

// The process is out of descriptors: gives one up, of an own arena that can do without. False: there is none.
bool spare_descriptor();

// Around fork(): before in the parent, and after in the child.
void arenas_before_fork();
void arenas_after_fork();
// Whether `fd` is one of the descriptors of own arenas, or of a port.
bool is_arena_fd(int fd);

}  // namespace shunt::sockets
