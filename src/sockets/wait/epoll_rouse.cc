#include "sockets/wait/epoll_rouse.h"

#include <cassert>

#include "sockets/connection/carriage.h"
#include "sockets/downgrade/follow.h"
#include "sockets/downgrade/moving_rest.h"
#include "sockets/downgrade/plain_bell.h"
#include "sockets/process/missed.h"
#include "sockets/wait/epoll_entry.h"
#include "sockets/wait/epoll_registry.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

// The program's own registration, for a connection that is nothing but a kernel socket now.
void watch_plain(EpollEntry* e) {
  assert(e->set->lock.held_by_me());
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
  assert(e->set->lock.held_by_me());
  Socket* s = e->socket;
  epoll_event event = bell_event(e);
  if (off_rings(s->connection)) {
    e->rest_mask = kernel_events_with_rest(s, e->events);
    event.events = e->rest_mask | EPOLLET;  // the entry is hot: the level is looked at there
  }
  sys::epoll_ctl(e->set->epfd, EPOLL_CTL_DEL, e->fd, nullptr);
  sys::epoll_ctl(e->set->epfd, EPOLL_CTL_ADD, e->fd, &event);
  e->fresh = true;
  make_hot(e);
  kick(e->set);
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
    if (!followed && off_rings(c) && !settle(s)) rewatch_registrations(s);
  }
  unpin(pinned);
}

}  // namespace

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

void rouse_registrations() {
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

}  // namespace shunt::sockets
