// The connecting side's arenas: one for each listener that this process connects to again and again.
//
// A link is for a listener's process, its user and the address asked for. Whoever accepts there (the process that
// listens, or one that it forked) sees the arena; nobody else does. The arena's descriptor travels with every CONNECT,
// because it cannot be known which of them will accept, and whether that one has it already; one that has it just
// closes it. A link keeps one descriptor, and there are few links: one for each 160 descriptors that the process may
// have, 32 at most; the least used one gives way.
//
// An arena that is full is retired, and the next one has eight times as many places (kPlacesMax at most): so who
// connects once takes no more than he needs. With a limit on addresses (RLIMIT_AS) each has one place, for one
// connection (Arena::alone): what will be mapped for the answer has to be set aside before.
//
// Thread safety: any thread. Errors: false.
#pragma once

#include <cstdint>

#include "sockets/arenas/arena.h"
#include "wire/endpoint.h"

namespace shunt::sockets {

struct Offer {
  PlaceRef place;  // held, for the connection
  std::uint32_t generation = 0;
  int fd = -1;  // of the arena, to send along: valid until offer_sent()
};

// False: no place can be had.
bool offer_place(const LinkKey& key, Offer* offer);
// CONNECT has been sent (`told`), or will not be.
void offer_sent(const Offer& offer, bool told);

// What CONNECTED says of the other end.
struct Answered {
  int fd = -1;  // -1: the arena is one that we know
  wire::ArenaId id;
  std::uint32_t places = 0;
  std::uint32_t index = 0;
};
// The place that answers `own`; held, for the connection. False: it is not what it says.
bool take_answer(const PlaceRef& own, const Answered& answered, PlaceRef* peer);

// For arena.h: every link gives its arena up.
void drop_links();

}  // namespace shunt::sockets
