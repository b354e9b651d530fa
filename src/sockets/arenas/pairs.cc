#include "sockets/arenas/pairs.h"

#include "base/untrusted.h"
#include "sockets/arenas/places.h"
#include "sockets/arenas/slots.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr std::uint32_t kPairsMax = 64;
// Own arenas whose descriptor stays open until the connecting side says that it has it.
constexpr std::uint32_t kOpenMax = 4;
constexpr std::uint32_t kSettledAtOnce = 4;

// Own arenas, each held; `theirs` is what one answers.
std::atomic<Arena*> pairs[kPairsMax];
std::atomic<std::uint64_t> uses{0};

bool is_retired(const Arena* theirs) {
  return Untrusted(theirs->header->retired).copy_acquire() != 0;
}

bool is_known(const Arena* mine) {
  for (const auto& word : mine->theirs->header->known) {
    if (Untrusted(word[1]).copy_acquire() == mine->id.low &&
        Untrusted(word[0]).copy() == mine->id.high) {
      return true;
    }
  }
  return false;
}

// The connecting side knows our arena, or can be sent it. (Else it was one of many that did not say in time that they
// know it; or it lies.)
bool can_be_told(const Arena* mine) { return is_known(mine) || mine->fd.load(kRelaxed) >= 0; }

bool is_idle(const Arena* mine) { return mine->users.load(kRelaxed) == 0; }

// Held, once more. nullptr: none.
Arena* find(const wire::ArenaId& id) {
  return find_held(pairs, [&](const Arena* mine) { return mine->theirs->id == id; });
}

// ---- with ArenasLocked ----

// For a new pair: unused, or that of the idle pair that was used least lately. nullptr: all are in use.
std::atomic<Arena*>* find_room() {
  std::atomic<Arena*>* best = nullptr;
  std::uint64_t least = 0;
  for (std::atomic<Arena*>& pair : pairs) {
    const Arena* a = pair.load(kRelaxed);
    if (a != nullptr && is_idle(a) && is_retired(a->theirs)) give_up(pair);
    a = pair.load(kRelaxed);
    if (a == nullptr) return &pair;
    const std::uint64_t used = a->last_use.load(kRelaxed);
    if (is_idle(a) && (best == nullptr || used < least)) {
      best = &pair;
      least = used;
    }
  }
  if (best != nullptr) give_up(*best);
  return best;
}

// Waiting places have a lot of memory: of those who have let go it is had back, and then idle pairs are forgotten, with
// what their peers have not read and may still read.
void shed() {
  for (const std::atomic<Arena*>& pair : pairs) {
    Arena* a = pair.load(kRelaxed);
    if (a != nullptr) settle_waiting(a, a->shape.places);
  }
  for (std::atomic<Arena*>& pair : pairs) {
    if (!too_much_waits()) return;
    const Arena* a = pair.load(kRelaxed);
    if (a != nullptr && is_idle(a)) give_up(pair);
  }
}

// Those that were used first are closed; should one be asked for all the same, its pair is made anew.
void close_old() {
  for (;;) {
    std::uint32_t open = 0;
    Arena* oldest = nullptr;
    for (const std::atomic<Arena*>& pair : pairs) {
      Arena* a = pair.load(kRelaxed);
      if (a == nullptr || a->fd.load(kRelaxed) < 0 || a->senders.load(kRelaxed) != 0) continue;
      ++open;
      if (oldest == nullptr || a->last_use.load(kRelaxed) < oldest->last_use.load(kRelaxed))
        oldest = a;
    }
    if (open <= kOpenMax) return;
    close_unsent(oldest);
  }
}

// Both arenas anew; ours has one place where as many as theirs could not be had. Held once, by the caller.
Answering make_pair(const Asked& asked, Arena** made) {
  Arena* theirs = map_arena(*asked.fd, asked.id, asked.places);
  if (theirs == nullptr) return Answering::kNonsense;
  sys::close_received(*asked.fd);
  *asked.fd = -1;
  Arena* mine = make_arena(asked.places);
  if (mine == nullptr && asked.places > 1) mine = make_arena(1);
  if (mine == nullptr) {
    drop(theirs);
    return Answering::kNoMemory;
  }
  mine->theirs = theirs;
  *made = mine;
  return Answering::kYes;
}

// ---- without ----

// False: it cannot be used (any more), and nothing has changed; see is_usable().
bool answer_from(Arena* mine, std::uint32_t peer_index, Answer* out, Answering* result) {
  // One that answers more places than it has is used once.
  const std::uint32_t own_index = mine->shape.places == mine->theirs->shape.places ? peer_index : 0;
  out->known = is_known(mine);
  out->fd = out->known ? -1 : begin_sending(mine);
  if (out->known) close_unsent(mine);
  if (!out->known && out->fd < 0) return false;
  const Taken taken = take(mine, own_index, &out->generation);
  if (taken != Taken::kYes) {
    if (out->fd >= 0) end_sending(mine);
    *result = Answering::kNonsense;
    return taken == Taken::kNo;
  }
  out->own = {mine, own_index};
  hold(mine->theirs);
  out->peer = {mine->theirs, peer_index};
  mine->last_use.store(uses.fetch_add(1, kRelaxed), kRelaxed);
  *result = Answering::kYes;
  return true;
}

bool is_usable(const Arena* mine, const Asked& asked) {
  return mine->theirs->shape.places == asked.places && can_be_told(mine);
}

Answering answer_anew(const Asked& asked, Answer* out) {
  const ArenasLocked locked;
  Answering result = Answering::kNonsense;
  for (std::atomic<Arena*>& pair : pairs) {
    Arena* a = pair.load(kRelaxed);
    if (a == nullptr || a->theirs->id != asked.id) continue;
    // Another thread has made it meanwhile; or it can no longer be used.
    if (is_usable(a, asked) && answer_from(a, asked.index, out, &result)) return result;
    give_up(pair);
  }
  if (*asked.fd < 0) return Answering::kUnknown;
  Arena* mine = nullptr;
  result = make_pair(asked, &mine);
  if (result != Answering::kYes) return result;
  if (!answer_from(mine, asked.index, out, &result)) result = Answering::kNoMemory;
  std::atomic<Arena*>* room = nullptr;
  if (result == Answering::kYes && mine->shape.places == asked.places) room = find_room();
  if (room == nullptr) {
    retire(mine);
    drop(mine);
    return result;
  }
  room->store(mine, std::memory_order_release);
  close_old();
  return result;
}

}  // namespace

bool knows_arena(const wire::ArenaId& id) {
  Arena* mine = find(id);
  if (mine == nullptr) return false;
  const bool usable = can_be_told(mine);
  drop(mine);
  return usable;
}

Answering answer_place(const Asked& asked, Answer* out) {
  if (asked.index >= asked.places) return Answering::kNonsense;
  if (too_much_waits()) {
    const ArenasLocked locked;
    shed();
  }
  if (Arena* mine = find(asked.id)) {
    Answering result = Answering::kNonsense;
    settle_waiting(mine, kSettledAtOnce);
    const bool answered = is_usable(mine, asked) && answer_from(mine, asked.index, out, &result);
    drop(mine);
    if (answered) return result;
  }
  return answer_anew(asked, out);
}

void answer_sent(const Answer& answer, bool told) {
  Arena* mine = answer.own.arena;
  mine->places[answer.own.index].told = told;
  if (answer.fd >= 0) end_sending(mine);
}

void drop_pairs() {
  for (std::atomic<Arena*>& pair : pairs) give_up(pair);
}

}  // namespace shunt::sockets
