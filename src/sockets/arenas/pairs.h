// The accepting side's arenas: for each arena of a connecting process one of our own, with as many places. Place i there
// is answered by place i here.
//
// Which arena a CONNECT means is said by its id, 128 random bits that only the connecting process and those who have
// accepted from it know. Known: nothing is mapped. Unknown: the descriptor that came along is checked and mapped. So
// a pair may be forgotten at any time when no connection uses it, and few are kept: 64.
//
// Thread safety: any thread. Errors: false.
#pragma once

#include <cstdint>

#include "sockets/arenas/arena.h"

namespace shunt::sockets {

// What CONNECT says.
struct Asked {
  int* fd = nullptr;  // closed, and -1, once it is mapped: its number may be wanted
  wire::ArenaId id;
  std::uint32_t places = 0;
  std::uint32_t index = 0;
};

struct Answer {
  PlaceRef own;  // both held, for the connection
  PlaceRef peer;
  std::uint32_t generation = 0;  // of the own one
  bool known = false;            // the connecting side has the own arena mapped
  int fd = -1;                   // else: of the own arena, to send along; valid until answer_sent()
};

// Whether nothing has to be mapped for it, as it seems, so that `fd` is not wanted.
bool knows_arena(const wire::ArenaId& id);

enum class Answering : std::uint8_t {
  kYes,
  kUnknown,   // nothing has changed: it has been forgotten meanwhile, so `fd` is wanted
  kNonsense,  // it is not what it says, or names a place that is in use
  kNoMemory,
};
Answering answer_place(const Asked& asked, Answer* answer);
// CONNECTED has been sent (`told`), or will not be.
void answer_sent(const Answer& answer, bool told);

// For arena.h: no pair is kept.
void drop_pairs();

}  // namespace shunt::sockets
