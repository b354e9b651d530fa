#include "sockets/arenas/links.h"

#include <sys/resource.h>

#include <algorithm>

#include "sockets/arenas/places.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr std::uint32_t kLinksMax = 32;
constexpr rlim_t kDescriptorsOfLink = 160;
constexpr std::uint32_t kGrowth = 8;

struct Link {
  LinkKey key;
  Arena* current;      // held; null: unused
  std::uint64_t used;  // by the clock below
};
Link links[kLinksMax];
std::uint64_t uses = 0;

rlim_t limit_of(int resource) {
  rlimit limit{};
  if (sys::raw(SYS_prlimit64, 0, resource, 0, sys::arg(&limit)) != 0) return RLIM_INFINITY;
  return limit.rlim_cur;
}

void give_up(Link* l) {
  if (l->current == nullptr) return;
  retire(l->current);
  drop(l->current);
  l->current = nullptr;
}

Link* find(const LinkKey& key) {
  for (Link& l : links) {
    if (l.current != nullptr && l.key == key) return &l;
  }
  return nullptr;
}

// For a listener that has none: an unused link, or that of the listener that was connected to least lately.
Link* find_room() {
  const auto most = static_cast<std::uint32_t>(
      std::clamp<rlim_t>(limit_of(RLIMIT_NOFILE) / kDescriptorsOfLink, 1, kLinksMax));
  Link* least = links;
  for (std::uint32_t i = 0; i < kLinksMax; ++i) {
    if (i >= most) {
      give_up(&links[i]);  // the limit has been lowered
    } else if (links[i].current == nullptr) {
      return &links[i];
    } else if (links[i].used < least->used) {
      least = &links[i];
    }
  }
  give_up(least);
  return least;
}

// The next arena of a link whose last one had `before` places; 0: its first.
Arena* make_next(std::uint32_t before) {
  std::uint32_t places = before == 0 ? 1 : std::min(before * kGrowth, layout::kPlacesMax);
  if (places > 1 && limit_of(RLIMIT_AS) != RLIM_INFINITY) places = 1;
  Arena* a = make_arena(places);
  return a == nullptr && places > 1 ? make_arena(1) : a;
}

void offer(PlaceRef place, std::uint32_t generation, Offer* out) {
  out->place = place;
  out->generation = generation;
  out->fd = place.arena->fd;
  ++place.arena->senders;
}

}  // namespace

bool offer_place(const LinkKey& key, Offer* out) {
  const ArenasLocked locked;
  Link* l = find(key);
  PlaceRef place;
  std::uint32_t generation = 0;
  std::uint32_t before = 0;
  if (l != nullptr) {
    l->used = ++uses;
    if (take_any(l->current, &place, &generation)) {
      offer(place, generation, out);
      return true;
    }
    before = l->current->shape.places;
    give_up(l);
  } else {
    l = find_room();
  }
  Arena* fresh = make_next(before);
  if (fresh == nullptr) return false;
  *l = {key, fresh, ++uses};
  if (!take_any(fresh, &place, &generation)) return false;
  offer(place, generation, out);
  return true;
}

void offer_sent(const Offer& offer, bool told) {
  const ArenasLocked locked;
  Arena* a = offer.place.arena;
  a->places[offer.place.index].told = told;
  --a->senders;
  if (a->retired) close_unsent(a);
}

bool take_answer(const PlaceRef& own, const Answered& answered, PlaceRef* peer) {
  if (answered.index >= answered.places) return false;
  const ArenasLocked locked;
  Arena* a = own.arena;
  for (std::uint32_t i = 0; i < a->known_count; ++i) {
    Arena* known = a->known[i];
    if (known->id != answered.id || known->shape.places != answered.places) continue;
    hold(known);
    *peer = {known, answered.index};
    return true;
  }
  if (answered.fd < 0) return false;
  Arena* fresh = map_arena(answered.fd, answered.id, answered.places);
  if (fresh == nullptr) return false;
  if (a->known_count < layout::kKnownArenas && !a->forked) {
    hold(fresh);
    a->known[a->known_count] = fresh;
    std::atomic<std::uint64_t>* word = a->own->known[a->known_count++];
    word[0].store(fresh->id.high, std::memory_order_relaxed);
    word[1].store(fresh->id.low, std::memory_order_release);
  }
  *peer = {fresh, answered.index};
  return true;
}

void drop_links() {
  for (Link& l : links) give_up(&l);
}

}  // namespace shunt::sockets
