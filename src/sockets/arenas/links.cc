#include "sockets/arenas/links.h"

#include <sys/resource.h>

#include <algorithm>

#include "sockets/arenas/places.h"
#include "sockets/arenas/slots.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr std::uint32_t kLinksMax = 32;
constexpr rlim_t kDescriptorsOfLink = 160;
constexpr std::uint32_t kGrowth = 8;

// The arenas of which connections get places now, each held; of one listener there is one.
std::atomic<Arena*> links[kLinksMax];
std::atomic<std::uint64_t> uses{0};

rlim_t limit_of(int resource) {
  rlimit limit{};
  if (sys::raw(SYS_prlimit64, 0, resource, 0, sys::arg(&limit)) != 0) return RLIM_INFINITY;
  return limit.rlim_cur;
}

bool offer_from(Arena* a, Offer* out) {
  const int fd = begin_sending(a);
  if (fd < 0) return false;
  if (take_any(a, &out->place, &out->generation)) {
    out->fd = fd;
    a->last_use.store(uses.fetch_add(1, kRelaxed), kRelaxed);
    return true;
  }
  end_sending(a);
  return false;
}

// ---- with ArenasLocked ----

// For a listener that has none: an unused link, or that of the listener that was connected to least lately.
std::atomic<Arena*>& find_room() {
  const auto most = static_cast<std::uint32_t>(
      std::clamp<rlim_t>(limit_of(RLIMIT_NOFILE) / kDescriptorsOfLink, 1, kLinksMax));
  std::uint32_t least = 0;
  for (std::uint32_t i = 0; i < kLinksMax; ++i) {
    const Arena* a = links[i].load(kRelaxed);
    if (i >= most) {
      give_up(links[i]);  // the limit has been lowered
    } else if (a == nullptr) {
      return links[i];
    } else if (a->last_use.load(kRelaxed) < links[least].load(kRelaxed)->last_use.load(kRelaxed)) {
      least = i;
    }
  }
  give_up(links[least]);
  return links[least];
}

// The next arena of a link whose last one had `before` places; 0: its first.
Arena* make_next(std::uint32_t before) {
  std::uint32_t places = before == 0 ? 1 : std::min(before * kGrowth, layout::kPlacesMax);
  const bool limited = limit_of(RLIMIT_AS) != RLIM_INFINITY;
  if (limited) places = 1;
  Arena* a = make_arena(places);
  if (a == nullptr && places > 1) a = make_arena(1);
  if (a != nullptr) a->alone = limited;
  return a;
}

// Waiting places have a lot of memory: of those who have let go it is had back, and then the arenas are given up.
void shed() {
  for (const std::atomic<Arena*>& link : links) {
    Arena* a = link.load(kRelaxed);
    if (a != nullptr) settle_waiting(a, a->shape.places);
  }
  if (too_much_waits()) drop_links();
}

bool offer_anew(const LinkKey& key, Offer* out) {
  const ArenasLocked locked;
  std::uint32_t before = 0;
  SpinBudget habit{};
  std::atomic<Arena*>* room = nullptr;
  for (std::atomic<Arena*>& link : links) {
    Arena* a = link.load(kRelaxed);
    if (a == nullptr || a->listener != key) continue;
    if (offer_from(a, out)) return true;  // another thread has made it meanwhile
    before = a->shape.places;
    habit = a->read_habit.load();
    give_up(link);
    room = &link;
  }
  if (room == nullptr) room = &find_room();
  Arena* fresh = make_next(before);
  if (fresh == nullptr) return false;
  fresh->listener = key;
  fresh->read_habit.store(habit);
  const bool offered = offer_from(fresh, out);
  room->store(fresh, std::memory_order_release);
  return offered;
}

// An arena that answers `a` and that is known. The caller holds `a`, and that holds it.
Arena* find_known(const Arena* a, const Answered& answered) {
  const std::uint32_t count = a->known_count.load(std::memory_order_acquire);
  for (std::uint32_t i = 0; i < count; ++i) {
    Arena* known = a->known[i].load(kRelaxed);
    if (known->id == answered.id && known->shape.places == answered.places) return known;
  }
  return nullptr;
}

// Nobody knows who it is: an arena for this connection alone.
bool offer_alone(Offer* out) {
  const ArenasLocked locked;
  Arena* a = make_arena(1);
  if (a == nullptr) return false;
  const bool offered = offer_from(a, out);
  retire(a);  // its descriptor stays open until it has been sent
  drop(a);
  return offered;
}

}  // namespace

bool offer_place(const LinkKey& key, Offer* out) {
  if (key.pid == 0 || key.uid == kNobody) return offer_alone(out);
  if (too_much_waits()) {
    const ArenasLocked locked;
    shed();
  }
  if (Arena* a = find_held(links, [&](const Arena* l) { return l->listener == key; })) {
    const bool offered = offer_from(a, out);
    drop(a);
    if (offered) return true;
  }
  return offer_anew(key, out);
}

void offer_sent(const Offer& offer, bool told) {
  Arena* a = offer.place.arena;
  a->places[offer.place.index].told = told;
  end_sending(a);
}

bool take_answer(const PlaceRef& own, const Answered& answered, PlaceRef* peer) {
  if (answered.index >= answered.places) return false;
  Arena* a = own.arena;
  if (Arena* known = find_known(a, answered)) {
    hold(known);
    *peer = {known, answered.index};
    return true;
  }
  if (answered.fd < 0) return false;
  const ArenasLocked locked;
  Arena* fresh = find_known(a, answered);
  if (fresh != nullptr) {
    hold(fresh);  // another thread has been told of it meanwhile
  } else {
    fresh = map_arena(answered.fd, answered.id, answered.places);
    if (fresh == nullptr) return false;
    const std::uint32_t count = a->known_count.load(kRelaxed);
    if (count < layout::kKnownArenas && !a->forked.load(std::memory_order_acquire)) {
      hold(fresh);
      a->known[count].store(fresh, kRelaxed);
      a->known_count.store(count + 1, std::memory_order_release);
      a->own->known[count][0].store(fresh->id.high, kRelaxed);
      a->own->known[count][1].store(fresh->id.low, std::memory_order_release);
    }
  }
  *peer = {fresh, answered.index};
  return true;
}

void drop_links() {
  for (std::atomic<Arena*>& link : links) give_up(link);
}

}  // namespace shunt::sockets
