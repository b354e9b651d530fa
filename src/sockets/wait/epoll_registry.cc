#include "sockets/wait/epoll_registry.h"

#include <cassert>

#include "ring/fence.h"
#include "sockets/process/missed.h"
#include "sockets/wait/epoll_entry.h"
#include "sys/kernel.h"

namespace shunt::sockets {

Lock registry;

namespace {

constexpr std::uint32_t kEntriesInChunk = 256;
constexpr std::uint32_t kChunks = 4096;

std::atomic<EpollEntry*> chunks[kChunks];
std::uint32_t chunk_count = 0;
EpollEntry* free_entries = nullptr;
std::uint64_t secret = 0;  // upper 40 bits of every cookie

EpollEntry* allocate_entry() {
  assert(registry.held_by_me());
  if (free_entries == nullptr) {
    if (chunk_count == kChunks) return nullptr;
    void* memory = sys::mmap(nullptr, sizeof(EpollEntry) * kEntriesInChunk, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == nullptr) return nullptr;
    auto* entries = static_cast<EpollEntry*>(memory);
    for (std::uint32_t i = kEntriesInChunk; i-- > 0;) {
      entries[i].index = chunk_count * kEntriesInChunk + i;
      entries[i].next_free = free_entries;
      free_entries = &entries[i];
    }
    chunks[chunk_count++].store(entries, std::memory_order_release);
  }
  EpollEntry* e = free_entries;
  free_entries = e->next_free;
  const std::uint32_t index = e->index;
  *e = {};
  e->index = index;
  return e;
}

// A socket or a set may have thousands of entries, and they come and go under the global lock.
template <EpollEntry* EpollEntry::*Next, EpollEntry* EpollEntry::*Previous>
void link(EpollEntry** head, EpollEntry* e) {
  e->*Next = *head;
  e->*Previous = nullptr;
  if (*head != nullptr) (*head)->*Previous = e;
  *head = e;
}

template <EpollEntry* EpollEntry::*Next, EpollEntry* EpollEntry::*Previous>
void unlink(EpollEntry** head, EpollEntry* e) {
  EpollEntry* const next = e->*Next;
  EpollEntry* const previous = e->*Previous;
  assert(previous != nullptr || *head == e);
  (previous != nullptr ? previous->*Next : *head) = next;
  if (next != nullptr) next->*Previous = previous;
}

void count_special(EpollSet* set) {
  set->special.fetch_add(1, std::memory_order_relaxed);
  set->has_cookies.store(true, std::memory_order_relaxed);
}

}  // namespace

EpollEntry* find(const Socket* s, const EpollSet* set, int fd) {
  assert(registry.held_by_me() && set->lock.held_by_me());
  for (EpollEntry* e = s->registrations; e != nullptr; e = e->next_of_socket) {
    if (e->set == set && e->fd == fd) return e;
  }
  return nullptr;
}

void forget(EpollEntry* e) {
  assert(registry.held_by_me() && e->set->lock.held_by_me());
  if (e->watched == Watched::kConnection) {
    disarm(e);
    make_cold(e);
  }
  if (e->watched != Watched::kPlain) e->set->special.fetch_sub(1, std::memory_order_relaxed);
  EpollEntry*& recent = e->set->recent[e->fd % kRecent];
  if (recent == e) recent = nullptr;
  if (e->watched == Watched::kEpoll) --e->set->nested;
  unlink<&EpollEntry::next_of_socket, &EpollEntry::previous_of_socket>(&e->socket->registrations,
                                                                       e);
  unlink<&EpollEntry::next_of_set, &EpollEntry::previous_of_set>(&e->set->entries, e);
  e->set = nullptr;
  e->next_free = free_entries;
  free_entries = e;
}

EpollEntry* remember(EpollSet* set, Socket* s, int fd, const epoll_event& event, Watched watched) {
  assert(registry.held_by_me() && set->lock.held_by_me());
  EpollEntry* e = allocate_entry();
  if (e == nullptr) return nullptr;
  e->set = set;
  e->socket = s;
  e->fd = fd;
  e->events = event.events;
  e->data = event.data;
  e->watched = watched;
  e->fresh = true;
  link<&EpollEntry::next_of_socket, &EpollEntry::previous_of_socket>(&s->registrations, e);
  link<&EpollEntry::next_of_set, &EpollEntry::previous_of_set>(&set->entries, e);
  if (watched == Watched::kEpoll) ++set->nested;
  if (watched != Watched::kPlain) count_special(set);
  return e;
}

void signal(EpollSet* set) {
  assert(set->lock.held_by_me());
  const std::uint64_t one = 1;
  if (set->kick == 0) {
    const int fd = sys::eventfd2(0, O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return;
    set->kick = sys::move_high(fd);
    epoll_event event{};
    event.events = EPOLLIN | EPOLLET;
    event.data.u64 = cookie_of(kKickIndex);
    sys::epoll_ctl(set->epfd, EPOLL_CTL_ADD, set->kick, &event);
  }
  sys::write(set->kick, &one, sizeof one);
}

void kick(EpollSet* set) {
  if (set->sleepers.load(std::memory_order_seq_cst) != 0) signal(set);
}

// Not EPOLLEXCLUSIVE, which goes without EPOLLRDHUP only: more than one set may be woken, which programs expect.
epoll_event bell_event(const EpollEntry* e) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP | EPOLLET | (e->events & EPOLLWAKEUP);
  event.data.u64 = cookie_of(e->index);
  return event;
}

void make_secret() {
  while ((secret >> 24) == 0) {
    sys::getrandom(&secret, sizeof secret);
    secret &= ~std::uint64_t{0xffffff};
  }
}

std::uint64_t cookie_of(std::uint32_t index) { return secret | index; }

EpollEntry* entry_of(std::uint64_t cookie, EpollSet* set, bool* kicked) {
  *kicked = false;
  if ((cookie & ~std::uint64_t{0xffffff}) != secret || secret == 0) return nullptr;
  const auto index = static_cast<std::uint32_t>(cookie & 0xffffff);
  if (index == kKickIndex) {
    *kicked = true;
    return nullptr;
  }
  if (index / kEntriesInChunk >= kChunks) return nullptr;
  EpollEntry* chunk = chunks[index / kEntriesInChunk].load(std::memory_order_acquire);
  if (chunk == nullptr) return nullptr;
  EpollEntry* e = chunk + index % kEntriesInChunk;
  if (e->set != set) *kicked = true;  // a registration that is gone: nothing to report
  return e->set == set ? e : nullptr;
}

std::atomic<std::uint32_t> registering{0};

// Or perhaps will have, by a call that saw the socket as it was.
static bool has_registrations(Socket* s) {
  ring::full_fence();  // the new kind before the look; pairs with Registering
  return registering.load(std::memory_order_seq_cst) != 0 ||
         __atomic_load_n(&s->registrations, __ATOMIC_ACQUIRE) != nullptr;
}

void detach_registrations(Socket* s) {
  if (!has_registrations(s)) return;
  SignalsBlocked blocked;
  Hold registered(registry);
  for (EpollEntry* e = s->registrations; e != nullptr; e = e->next_of_socket) {
    Hold hold(e->set->lock);
    if (e->set->inherited) continue;
    sys::epoll_ctl(e->set->epfd, EPOLL_CTL_DEL, e->fd, nullptr);
  }
}

void attach_registrations(Socket* s) {
  if (!has_registrations(s)) return;
  SignalsBlocked blocked;
  Hold registered(registry);
  const bool connection = s->kind.load(std::memory_order_acquire) == Kind::kConnection;
  for (EpollEntry* e = s->registrations; e != nullptr; e = e->next_of_socket) {
    if (e->watched == Watched::kConnection) continue;
    EpollSet* set = e->set;
    Hold hold(set->lock);
    if (!connection) {
      epoll_event event{};
      event.events = e->events & ~static_cast<std::uint32_t>(EPOLLEXCLUSIVE);
      event.data = e->data;
      sys::epoll_ctl(set->epfd, EPOLL_CTL_ADD, waiting_descriptor(e->fd, s), &event);
      continue;
    }
    e->watched = Watched::kConnection;
    count_special(set);
    epoll_event event = bell_event(e);
    sys::epoll_ctl(set->epfd, EPOLL_CTL_ADD, e->fd, &event);
    e->fresh = true;
    make_hot(e);
    kick(set);
  }
}

void use_inherited_set(EpollSet* set) {
  Hold hold(set->lock);
  if (!set->inherited) return;
  set->inherited = false;
  for (EpollEntry* e = set->entries; e != nullptr; e = e->next_of_set) {
    if (e->watched == Watched::kConnection) note_missed(e->socket);
  }
}

}  // namespace shunt::sockets
