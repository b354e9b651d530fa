#include "sockets/arenas/arena.h"

#include <sys/resource.h>

#include <cassert>
#include <cstring>

#include "sockets/arenas/links.h"
#include "sockets/arenas/memory_object.h"
#include "sockets/arenas/pairs.h"
#include "sockets/arenas/places.h"
#include "sockets/thread/free_list.h"
#include "sys/kernel.h"
#include "wire/version.h"

namespace shunt::sockets {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr std::size_t kArenasInChunk = 32;
constexpr std::size_t kPageBytes = 4096;

Lock arenas_lock;
FreeList<Arena, &Arena::next_free> free_arenas;
// Every Arena that was ever made lies in one of these.
struct Chunk {
  Chunk* next;
  Arena arenas[kArenasInChunk];
};
std::atomic<Chunk*> chunks{nullptr};

bool add_chunk() {
  assert(arenas_lock.held_by_me());
  auto* chunk = static_cast<Chunk*>(sys::mmap(nullptr, sizeof(Chunk), PROT_READ | PROT_WRITE,
                                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (chunk == nullptr) return false;
  for (Arena& a : chunk->arenas) free_arenas.push(&a);
  chunk->next = chunks.load(std::memory_order_relaxed);
  chunks.store(chunk, std::memory_order_release);
  return true;
}

// Nobody holds it yet: whoever finds it in a table from an earlier life cannot either.
Arena* allocate() {
  Arena* a = free_arenas.pop();
  if (a == nullptr && add_chunk()) a = free_arenas.pop();
  if (a == nullptr) return nullptr;
  a->own = nullptr;
  a->header = nullptr;
  a->shape = {0};
  a->alone = false;
  a->forked.store(false, kRelaxed);
  a->places = nullptr;
  a->single.state.store(PlaceState::kFree, kRelaxed);
  a->single.told = false;
  a->single.kept_bytes = 0;
  a->single.peer = nullptr;
  a->single.touched = 0;
  a->single.port = {};
  a->users.store(0, kRelaxed);
  a->last_use.store(0, kRelaxed);
  a->read_habit.clear();
  a->retired.store(false, kRelaxed);
  a->fd.store(-1, kRelaxed);
  a->senders.store(0, kRelaxed);
  a->listener = {};
  a->known_count.store(0, kRelaxed);
  a->theirs = nullptr;
  return a;
}

// From here on it may be held. Release: who holds it sees all of it.
Arena* enter(Arena* a) {
  a->holders.store(1, std::memory_order_release);
  return a;
}

template <typename Visit>
void for_each_arena(Visit visit) {
  for (Chunk* c = chunks.load(std::memory_order_acquire); c != nullptr; c = c->next) {
    for (Arena& a : c->arenas) {
      if (a.holders.load(std::memory_order_acquire) != 0) visit(a);
    }
  }
}

std::size_t places_bytes(std::uint32_t places) {
  return (places * sizeof(Place) + kPageBytes - 1) & ~(kPageBytes - 1);
}

// Where memory is locked as it is mapped (mlockall), a large mapping would be filled with pages at once. So it is
// mapped without access, unlocked, and made accessible then. Under RLIMIT_MEMLOCK it fails, as any mapping does.
void* map_unlocked(std::uint64_t bytes, int protection, int fd, void* at) {
  void* mapped = sys::mmap(at, bytes, PROT_NONE,
                           MAP_SHARED | MAP_NORESERVE | (at != nullptr ? MAP_FIXED : 0), fd, 0);
  if (mapped == nullptr) return nullptr;
  sys::raw(SYS_munlock, sys::arg(mapped), static_cast<long>(bytes));
  if (sys::raw(SYS_mprotect, sys::arg(mapped), static_cast<long>(bytes), protection) == 0)
    return mapped;
  sys::munmap(mapped, bytes);
  return nullptr;
}

// Beyond it ftruncate() would send SIGXFSZ.
bool over_file_limit(std::uint64_t bytes) {
  rlimit limit{};
  return sys::raw(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, sys::arg(&limit)) == 0 &&
         limit.rlim_cur < bytes;
}

// Sealed, of this user alone, and opened for reading at `*fd`; mapped for writing. nullptr: no.
layout::ArenaHeader* make_object(std::uint64_t bytes, int* fd) {
  if (over_file_limit(bytes)) return nullptr;
  const int memory = sys::memfd_create("shunt-arena", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (memory < 0) return nullptr;
  void* mapped = nullptr;
  if (sys::raw(SYS_fchmod, memory, 0400) == 0 && sys::ftruncate(memory, bytes) == 0 &&
      sys::fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0) {
    mapped = map_unlocked(bytes, PROT_READ | PROT_WRITE, memory, nullptr);
  }
  if (mapped == nullptr) {
    sys::close(memory);
    return nullptr;
  }
  *fd = sys::move_high(open_read_only(memory));
  return static_cast<layout::ArenaHeader*>(mapped);
}

void write_header(Arena* a) {
  layout::ArenaHeader* h = a->own;
  h->version = wire::kLayoutVersion;
  h->header_bytes = sizeof *h;
  h->places = a->shape.places;
  h->control_bytes = sizeof(layout::Area);
  h->arena_bytes = a->shape.bytes();
  h->id = a->id;
  h->magic = layout::kArenaMagic;
}

bool sound(const layout::ArenaHeader& h, const wire::ArenaId& id, layout::ArenaShape shape) {
  return h.magic == layout::kArenaMagic && h.version == wire::kLayoutVersion &&
         h.header_bytes == sizeof h && h.places == shape.places &&
         h.control_bytes == sizeof(layout::Area) && h.arena_bytes == shape.bytes() && h.id == id;
}

void close_fd(Arena* a) {
  const int fd = a->fd.exchange(-1, std::memory_order_acq_rel);
  if (fd >= 0) sys::close(fd);
}

// Nobody holds it. Recurses two deep: an own arena holds peers' arenas, and those hold nothing.
void destroy(Arena* a) {
  for (std::uint32_t i = 0; a->own != nullptr && i < a->shape.places; ++i) {
    if (a->places[i].state.load(std::memory_order_acquire) == PlaceState::kWaiting)
      drop(a->places[i].peer);
    forget_kept(&a->places[i]);
    release_port(&a->places[i].port);
  }
  for (std::uint32_t i = 0; i < a->known_count.load(kRelaxed); ++i)
    drop(a->known[i].load(kRelaxed));
  if (a->theirs != nullptr) drop(a->theirs);
  if (a->header != nullptr)
    sys::munmap(const_cast<layout::ArenaHeader*>(a->header), a->shape.bytes());
  if (a->places != nullptr && a->places != &a->single)
    sys::munmap(a->places, places_bytes(a->shape.places));
  close_fd(a);
  free_arenas.push(a);
}

}  // namespace

ArenasLocked::ArenasLocked() { arenas_lock.acquire(); }
ArenasLocked::~ArenasLocked() { arenas_lock.release(); }

Arena* make_arena(std::uint32_t places) {
  Arena* a = allocate();
  if (a == nullptr) return nullptr;
  a->shape = {places};
  assert(a->shape.sound());
  a->places = &a->single;
  if (places > 1) {
    a->places = static_cast<Place*>(sys::mmap(nullptr, places_bytes(places), PROT_READ | PROT_WRITE,
                                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  }
  int fd = -1;
  if (a->places != nullptr) a->own = make_object(a->shape.bytes(), &fd);
  a->header = a->own;
  a->fd.store(fd, kRelaxed);
  struct {
    wire::ArenaId id;
    std::uint32_t generation;
  } random{};
  if (a->own == nullptr || sys::getrandom(&random, sizeof random) != sizeof random) {
    if (a->own == nullptr && a->places != nullptr && places > 1)
      sys::munmap(a->places, places_bytes(places));
    if (a->own == nullptr) a->places = nullptr;
    destroy(a);
    return nullptr;
  }
  a->id = random.id;
  a->generation.store(random.generation, kRelaxed);
  write_header(a);
  a->cursor.store(0, kRelaxed);
  a->turning.store(0, kRelaxed);
  return enter(a);
}

const layout::ArenaHeader* map_arena_at(int fd, const wire::ArenaId& id, std::uint32_t places,
                                        void* at) {
  const layout::ArenaShape shape{places};
  if (!shape.sound() || id.none()) return nullptr;
  if (!is_sealed_object(fd, shape.bytes())) return nullptr;
  void* mapped = map_unlocked(shape.bytes(), PROT_READ, fd, at);
  if (mapped == nullptr) return nullptr;
  // A private copy is what is checked.
  alignas(layout::ArenaHeader) std::uint8_t copy[sizeof(layout::ArenaHeader)];
  std::memcpy(copy, mapped, sizeof copy);
  if (sound(*reinterpret_cast<const layout::ArenaHeader*>(copy), id, shape))
    return static_cast<const layout::ArenaHeader*>(mapped);
  sys::munmap(mapped, shape.bytes());
  return nullptr;
}

Arena* map_arena(int fd, const wire::ArenaId& id, std::uint32_t places) {
  const layout::ArenaHeader* header = map_arena_at(fd, id, places, nullptr);
  if (header == nullptr) return nullptr;
  Arena* a = allocate();
  if (a == nullptr) {
    sys::munmap(const_cast<layout::ArenaHeader*>(header), layout::ArenaShape{places}.bytes());
    return nullptr;
  }
  a->header = header;
  a->shape = {places};
  a->id = id;
  return enter(a);
}

void hold(Arena* arena) {
  const std::uint32_t before = arena->holders.fetch_add(1, std::memory_order_acq_rel);
  assert(before != 0);
  static_cast<void>(before);
}

bool hold_if_alive(Arena* arena) {
  std::uint32_t seen = arena->holders.load(std::memory_order_acquire);
  while (seen != 0 &&
         !arena->holders.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel)) {
  }
  return seen != 0;
}

void drop(Arena* arena) {
  const std::uint32_t before = arena->holders.fetch_sub(1, std::memory_order_acq_rel);
  assert(before != 0);
  if (before == 1) destroy(arena);
}

layout::Area* own_control(const PlaceRef& place) {
  auto* base = reinterpret_cast<std::uint8_t*>(place.arena->own);
  return reinterpret_cast<layout::Area*>(base + place.arena->shape.control_offset(place.index));
}

ring::Segments<std::uint8_t> own_segments(const PlaceRef& place) {
  auto* base = reinterpret_cast<std::uint8_t*>(place.arena->own);
  const layout::ArenaShape shape = place.arena->shape;
  return {base + shape.first_offset(place.index),
          base + shape.rest_offset(place.index) - layout::kSegmentBytes};
}

const layout::Area* control_at(const layout::ArenaHeader* arena, layout::ArenaShape shape,
                               std::uint32_t index) {
  const auto* base = reinterpret_cast<const std::uint8_t*>(arena);
  return reinterpret_cast<const layout::Area*>(base + shape.control_offset(index));
}

ring::Segments<const std::uint8_t> segments_at(const layout::ArenaHeader* arena,
                                               layout::ArenaShape shape, std::uint32_t index) {
  const auto* base = reinterpret_cast<const std::uint8_t*>(arena);
  return {base + shape.first_offset(index),
          base + shape.rest_offset(index) - layout::kSegmentBytes};
}

// A sender counts itself and then looks at `retired`; who retires sets that and then looks at the count: one of them
// sees the other (both sequentially consistent), and whoever comes last closes the descriptor.
int begin_sending(Arena* a) {
  a->senders.fetch_add(1, std::memory_order_seq_cst);
  if (!a->retired.load(std::memory_order_seq_cst)) {
    const int fd = a->fd.load(std::memory_order_seq_cst);
    if (fd >= 0) return fd;
  }
  end_sending(a);
  return -1;
}

void end_sending(Arena* a) {
  if (a->senders.fetch_sub(1, std::memory_order_seq_cst) == 1 &&
      a->retired.load(std::memory_order_seq_cst)) {
    close_fd(a);
  }
}

void close_unsent(Arena* a) {
  const int fd = a->fd.exchange(-1, std::memory_order_seq_cst);
  if (fd < 0) return;
  if (a->senders.load(std::memory_order_seq_cst) == 0) {
    sys::close(fd);
  } else {
    a->fd.store(fd, std::memory_order_seq_cst);
    if (a->retired.load(std::memory_order_seq_cst) &&
        a->senders.load(std::memory_order_seq_cst) == 0) {
      close_fd(a);
    }
  }
}

void retire(Arena* a) {
  if (a->retired.exchange(true, std::memory_order_seq_cst)) return;
  a->own->retired.store(1, std::memory_order_release);
  close_unsent(a);
}

bool spare_descriptor() {
  const ArenasLocked locked;
  bool spared = false;
  for_each_arena([&](Arena& a) {
    if (spared || a.fd.load(kRelaxed) < 0) return;
    close_unsent(&a);
    spared = a.fd.load(kRelaxed) < 0;
  });
  return spared;
}

// Another thread may make an arena between this and the fork; the child then forgets it.
void arenas_before_fork() {
  const ArenasLocked locked;
  drop_links();
  drop_pairs();
  for_each_arena([](Arena& a) {
    a.forked = true;
    if (a.own != nullptr) retire(&a);
  });
}

void arenas_after_fork() {
  arenas_lock.reset_after_fork();
  const ArenasLocked locked;
  for_each_arena([](Arena& a) {
    a.forked = true;
    a.senders = 0;
    if (a.own == nullptr) return;
    a.retired = true;  // in this process: the parent's header is the parent's
    close_fd(&a);
  });
  drop_links();
  drop_pairs();
}

bool is_arena_fd(int fd) {
  bool found = false;
  if (fd <= 0) return false;
  for_each_arena([&](Arena& a) {
    if (found || !hold_if_alive(&a)) return;
    found = a.fd.load(std::memory_order_relaxed) == fd;
    for (std::uint32_t i = 0; a.own != nullptr && i < a.shape.places; ++i) {
      found = found || a.places[i].port.fd == fd;
    }
    drop(&a);
  });
  return found;
}

}  // namespace shunt::sockets
