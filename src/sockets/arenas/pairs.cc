#include "sockets/arenas/pairs.h"

#include "base/untrusted.h"
#include "sockets/arenas/places.h"

namespace shunt::sockets {
namespace {

constexpr std::uint32_t kPairsMax = 64;
// Own arenas whose descriptor stays open until the connecting side says that it has it.
constexpr std::uint32_t kOpenMax = 4;
constexpr std::uint32_t kSettledAtOnce = 4;

struct Pair {
  Arena* theirs;  // both held; null: unused
  Arena* mine;
  std::uint64_t used;
};
Pair pairs[kPairsMax];
std::uint64_t uses = 0;

void give_up(Pair* p) {
  if (p->theirs == nullptr) return;
  Arena* mine = p->mine;
  Arena* theirs = p->theirs;
  *p = {};
  retire(mine);
  drop(mine);
  drop(theirs);
}

bool is_retired(const Arena* theirs) {
  return Untrusted(theirs->header->retired).copy_acquire() != 0;
}

// A place for a new pair: unused, or of the idle pair that was used least lately. nullptr: all are in use.
Pair* find_room() {
  Pair* best = nullptr;
  for (Pair& p : pairs) {
    if (p.theirs != nullptr && p.mine->used == 0 && is_retired(p.theirs)) give_up(&p);
    if (p.theirs == nullptr) return &p;
    if (p.mine->used == 0 && (best == nullptr || p.used < best->used)) best = &p;
  }
  if (best != nullptr) give_up(best);
  return best;
}

Pair* find(const wire::ArenaId& id) {
  for (Pair& p : pairs) {
    if (p.theirs != nullptr && p.theirs->id == id) return &p;
  }
  return nullptr;
}

bool is_known(const Arena* theirs, const wire::ArenaId& mine) {
  for (const auto& word : theirs->header->known) {
    if (Untrusted(word[1]).copy_acquire() == mine.low && Untrusted(word[0]).copy() == mine.high)
      return true;
  }
  return false;
}

// Those that were opened first are closed; should one be asked for all the same, its pair is made anew.
void close_old() {
  for (;;) {
    std::uint32_t open = 0;
    Pair* oldest = nullptr;
    for (Pair& p : pairs) {
      if (p.theirs == nullptr || p.mine->fd < 0 || p.mine->senders != 0) continue;
      ++open;
      if (oldest == nullptr || p.used < oldest->used) oldest = &p;
    }
    if (open <= kOpenMax) return;
    close_unsent(oldest->mine);
  }
}

// Both arenas anew. `*own_index`: as asked; 0 where our own could not be made as large as theirs.
Answering make_pair(const Asked& asked, Pair* made, std::uint32_t* own_index) {
  made->theirs = map_arena(asked.fd, asked.id, asked.places);
  if (made->theirs == nullptr) return Answering::kNonsense;
  *own_index = asked.index;
  made->mine = make_arena(asked.places);
  if (made->mine == nullptr && asked.places > 1) {
    *own_index = 0;
    made->mine = make_arena(1);
  }
  if (made->mine != nullptr) return Answering::kYes;
  drop(made->theirs);
  return Answering::kNoMemory;
}

Answering answer_from(const Pair& p, std::uint32_t peer_index, std::uint32_t own_index,
                      Answer* out) {
  if (!take(p.mine, own_index, &out->generation)) return Answering::kNonsense;
  out->own = {p.mine, own_index};
  hold(p.theirs);
  out->peer = {p.theirs, peer_index};
  out->fd = -1;
  if (!is_known(p.theirs, p.mine->id)) {
    out->fd = p.mine->fd;
    ++p.mine->senders;
  } else {
    close_unsent(p.mine);
  }
  return Answering::kYes;
}

}  // namespace

Answering answer_place(const Asked& asked, Answer* out) {
  if (asked.index >= asked.places) return Answering::kNonsense;
  const ArenasLocked locked;
  Pair* p = find(asked.id);
  if (p != nullptr && p->theirs->shape.places != asked.places) return Answering::kNonsense;
  if (p != nullptr && p->mine->fd < 0 && !is_known(p->theirs, p->mine->id)) {
    give_up(p);
    p = nullptr;
  }
  if (p != nullptr) {
    p->used = ++uses;
    settle_waiting(p->mine, kSettledAtOnce);
    return answer_from(*p, asked.index, asked.index, out);
  }
  Pair made{};
  std::uint32_t own_index = 0;
  Answering result = make_pair(asked, &made, &own_index);
  if (result != Answering::kYes) return result;
  result = answer_from(made, asked.index, own_index, out);
  // One that answers other places than those that it is asked for is used once.
  Pair* room = made.mine->shape.places == asked.places ? find_room() : nullptr;
  if (room != nullptr && result == Answering::kYes) {
    made.used = ++uses;
    *room = made;
    close_old();
  } else {
    give_up(&made);
  }
  return result;
}

void answer_sent(const Answer& answer, bool told) {
  const ArenasLocked locked;
  Arena* mine = answer.own.arena;
  mine->places[answer.own.index].told = told;
  if (answer.fd < 0) return;
  --mine->senders;
  if (mine->retired) close_unsent(mine);
}

void drop_pairs() {
  for (Pair& p : pairs) give_up(&p);
}

}  // namespace shunt::sockets
