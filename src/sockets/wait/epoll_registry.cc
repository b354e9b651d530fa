#include "sockets/wait/epoll_registry.h"

#include "sockets/connection/carriage.h"
#include "sockets/downgrade/follow.h"
#include "sockets/downgrade/plain_bell.h"
#include "sockets/downgrade/rest.h"
#include "sockets/process/missed.h"
#include "sys/kernel.h"

namespace shunt::sockets {

Lock registry;

namespace {

constexpr std::uint32_t kEntriesInChunk = 256;
constexpr std::uint32_t kChunks = 4096;
constexpr std::size_t kSetBytes = 4096;
static_assert(sizeof(EpollSet) <= kSetBytes);

std::atomic<EpollEntry*> chunks[kChunks];
std::uint32_t chunk_count = 0;
EpollEntry* free_entries = nullptr;
std::uint64_t secret = 0;  // upper 40 bits of every cookie

EpollEntry* allocate_entry() {
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

template <EpollEntry* EpollEntry::*Next>
void unlink(EpollEntry** head, EpollEntry* e) {
  while (*head != nullptr && *head != e) head = &((*head)->*Next);
  if (*head == e) *head = e->*Next;
}

void count_special(EpollSet* set) {
  set->special.fetch_add(1, std::memory_order_relaxed);
  set->has_cookies.store(true, std::memory_order_relaxed);
}

}  // namespace

EpollEntry* find(const Socket* s, const EpollSet* set, int fd) {
  for (EpollEntry* e = s->registrations; e != nullptr; e = e->next_of_socket) {
    if (e->set == set && e->fd == fd) return e;
  }
  return nullptr;
}

void forget(EpollEntry* e) {
  if (e->watched == Watched::kConnection) {
    disarm(e);
    make_cold(e);
  }
  if (e->watched != Watched::kPlain) e->set->special.fetch_sub(1, std::memory_order_relaxed);
  EpollEntry*& recent = e->set->recent[e->fd % kRecent];
  if (recent == e) recent = nullptr;
  unlink<&EpollEntry::next_of_socket>(&e->socket->registrations, e);
  unlink<&EpollEntry::next_of_set>(&e->set->entries, e);
  e->set = nullptr;
  e->next_free = free_entries;
  free_entries = e;
}

EpollEntry* remember(EpollSet* set, Socket* s, int fd, const epoll_event& event, Watched watched) {
  EpollEntry* e = allocate_entry();
  if (e == nullptr) return nullptr;
  e->set = set;
  e->socket = s;
  e->fd = fd;
  e->events = event.events;
  e->data = event.data;
  e->watched = watched;
  e->fresh = true;
  e->next_of_socket = s->registrations;
  s->registrations = e;
  e->next_of_set = set->entries;
  set->entries = e;
  if (watched != Watched::kPlain) count_special(set);
  return e;
}

void signal(EpollSet* set) {
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

void detach_registrations(Socket* s) {
  SignalsBlocked blocked;
  Hold registered(registry);
  for (EpollEntry* e = s->registrations; e != nullptr; e = e->next_of_socket) {
    Hold hold(e->set->lock);
    if (e->set->inherited) continue;
    sys::epoll_ctl(e->set->epfd, EPOLL_CTL_DEL, e->fd, nullptr);
  }
}

void attach_registrations(Socket* s) {
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

namespace {

// The program's own registration, for a connection that is nothing but a kernel socket now.
void watch_plain(EpollEntry* e) {
  disarm(e);
  make_cold(e);
  EpollSet* set = e->set;
  sys::epoll_ctl(set->epfd, EPOLL_CTL_DEL, e->fd, nullptr);
  if (e->dormant) {
    forget(e);
    return;
  }
  set->special.fetch_sub(1, std::memory_order_relaxed);
  if (set->recent[e->fd % kRecent] == e) set->recent[e->fd % kRecent] = nullptr;
  e->watched = Watched::kPlain;
  if (e->spent) return;  // silent until EPOLL_CTL_MOD, which adds it: see control_plain()
  epoll_event event{};
  event.events = e->events;
  event.data = e->data;
  sys::epoll_ctl(set->epfd, EPOLL_CTL_ADD, e->fd, &event);
}

void watch_again(EpollEntry* e) {
  Socket* s = e->socket;
  epoll_event event = bell_event(e);
  if (downgraded(s->connection)) {
    e->rest_mask = kernel_events_with_rest(s, e->events);
    event.events = e->rest_mask | EPOLLET;  // the entry is hot: the level is looked at there
  }
  sys::epoll_ctl(e->set->epfd, EPOLL_CTL_DEL, e->fd, nullptr);
  sys::epoll_ctl(e->set->epfd, EPOLL_CTL_ADD, e->fd, &event);
  e->fresh = true;
  make_hot(e);
  kick(e->set);
}

void rewatch_registrations(Socket* s) {
  SignalsBlocked blocked;
  Hold registered(registry);
  const bool plain = s->kind.load(std::memory_order_acquire) == Kind::kPlain;
  EpollEntry* next = nullptr;
  for (EpollEntry* e = s->registrations; e != nullptr; e = next) {
    next = e->next_of_socket;
    Hold hold(e->set->lock);
    if (e->watched != Watched::kConnection || e->set->inherited) continue;
    if (plain) {
      watch_plain(e);
    } else {
      watch_again(e);
    }
  }
}

// A downgrade that was noticed under a set's lock.
void catch_up(Socket* s) {
  const int fd = next_descriptor(s, 0, -1);
  if (fd < 0) return;
  Socket* pinned = lookup_pinned(fd);
  if (pinned == nullptr) return;
  if (pinned == s && s->kind.load(std::memory_order_acquire) == Kind::kConnection) {
    Connection* c = s->connection;
    const bool followed = follow_due(c) && follow_downgrade(fd, s);
    if (!followed && downgraded(c) && !settle(s)) rewatch_registrations(s);
  }
  unpin(pinned);
}

void rouse() {
  SignalsBlocked blocked;
  Hold registered(registry);
  if (!registered.owns()) return;
  Socket* s = take_missed();
  while (s != nullptr) {
    Socket* const next = s->next_missed;
    s->missed.store(false, std::memory_order_release);
    catch_up(s);
    for (EpollEntry* e = s->registrations; e != nullptr; e = e->next_of_socket) {
      if (e->watched != Watched::kConnection) continue;
      Hold hold(e->set->lock);
      if (!hold.owns()) {
        note_missed(s);  // we are in a handler that interrupted a wait: that wait will rouse
        continue;
      }
      make_hot(e);
      // Also without sleepers of its own: it may be nested in another set, or in a poll.
      signal(e->set);
    }
    s = next;
  }
}

void drop_registrations(Socket* s) {
  if (s->registrations == nullptr) return;
  SignalsBlocked blocked;
  Hold registered(registry);
  while (EpollEntry* e = s->registrations) {
    Hold hold(e->set->lock);
    forget(e);
  }
}

void destroy_set(Socket* s) {
  EpollSet* set = s->epoll;
  s->epoll = nullptr;
  if (set == nullptr) return;
  SignalsBlocked blocked;
  Hold registered(registry);
  while (set->entries != nullptr) forget(set->entries);
  if (set->kick != 0) sys::close(set->kick);
  sys::munmap(set, kSetBytes);
}

constexpr EpollCalls kCalls{rouse, rewatch_registrations, drop_registrations, destroy_set};

}  // namespace

void made_epoll(int epfd) {
  SignalsBlocked blocked;
  Hold hold(registry);
  serve_epolls(&kCalls);
  while ((secret >> 24) == 0) {
    sys::getrandom(&secret, sizeof secret);
    secret &= ~std::uint64_t{0xffffff};
  }
  void* memory =
      sys::mmap(nullptr, kSetBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == nullptr) return;
  Socket* s = enter(epfd, Kind::kEpoll, 0);
  if (s == nullptr) {
    sys::munmap(memory, kSetBytes);
    return;
  }
  s->epoll = static_cast<EpollSet*>(memory);
  s->epoll->epfd = epfd;
}

void use_inherited_set(EpollSet* set) {
  Hold hold(set->lock);
  if (!set->inherited) return;
  set->inherited = false;
  for (EpollEntry* e = set->entries; e != nullptr; e = e->next_of_set) {
    if (e->watched == Watched::kConnection) note_missed(e->socket);
  }
}

void epolls_after_fork() {
  registry.reset_after_fork();
  for_each(
      [](int, Socket* s, void*) {
        if (s->epoll != nullptr) {
          s->epoll->lock.reset_after_fork();
          s->epoll->inherited = true;
        }
        for (EpollEntry* e = s->registrations; e != nullptr; e = e->next_of_socket) {
          e->armed_read = e->armed_write = false;
          e->fresh = true;
          make_hot(e);
        }
      },
      nullptr, 0, table_limit());
}

}  // namespace shunt::sockets
