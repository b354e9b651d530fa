#include "sockets/wait/epoll_control.h"

#include <cassert>
#include <cerrno>

#include "sockets/connection/carriage.h"
#include "sockets/process/missed.h"
#include "sockets/process/result.h"
#include "sockets/wait/epoll_entry.h"
#include "sockets/wait/epoll_registry.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

struct Pin {
  explicit Pin(int fd) : socket(lookup_pinned(fd)) {}
  ~Pin() {
    if (socket != nullptr) unpin(socket);
  }
  Pin(const Pin&) = delete;
  Pin& operator=(const Pin&) = delete;
  Socket* const socket;
};

long add_connection(EpollSet* set, Socket* s, int fd, const epoll_event& event) {
  EpollEntry* e = remember(set, s, fd, event, Watched::kConnection);
  if (e == nullptr) return -ENOMEM;
  epoll_event kernel_event = bell_event(e);
  const int r = sys::epoll_ctl(set->epfd, EPOLL_CTL_ADD, fd, &kernel_event);
  if (r < 0) {
    forget(e);
    return r;
  }
  set->recent[fd % kRecent] = e;
  make_hot(e);
  if (follow_due(s->connection) || off_rings(s->connection)) note_missed(s);
  kick(set);
  return 0;
}

// Operations on an entry that exists, dormant or not. A program that takes a socket out and puts it
// back for every request costs no system call: the kernel's registration stays, and its edges mean
// nothing while the entry is dormant. With the set's lock held.
long change_entry(EpollEntry* e, int op, const epoll_event* event) {
  assert(e->set->lock.held_by_me());
  if (op == EPOLL_CTL_ADD && !e->dormant) return -EEXIST;
  if (op != EPOLL_CTL_ADD && e->dormant) return -ENOENT;
  if (op == EPOLL_CTL_DEL) {
    disarm(e);
    make_cold(e);
    e->dormant = true;
    return 0;
  }
  if (op == EPOLL_CTL_MOD && ((e->events | event->events) & EPOLLEXCLUSIVE) != 0) return -EINVAL;
  e->dormant = false;
  e->events = event->events;
  e->data = event->data;
  e->fresh = true;
  e->spent = false;
  disarm(e);
  make_hot(e);
  kick(e->set);
  return 0;
}

constexpr std::uint32_t kFixedInKernel = EPOLLEXCLUSIVE | EPOLLWAKEUP;

// As the kernel has it (epoll_ctl(2)).
constexpr std::uint32_t kGoWithExclusive =
    EPOLLEXCLUSIVE | EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET;

long control_connection(EpollSet* set, int op, Socket* s, int fd, const epoll_event* event) {
  if (op == EPOLL_CTL_ADD && (event->events & EPOLLEXCLUSIVE) != 0 &&
      (event->events & ~kGoWithExclusive) != 0) {
    return -EINVAL;
  }
  EpollEntry* e = find(s, set, fd);
  if (e != nullptr && e->dormant && op == EPOLL_CTL_ADD &&
      ((e->events | event->events) & kFixedInKernel) != 0) {
    // What the kernel was told at its ADD would not fit any more: start over.
    forget(e);
    sys::epoll_ctl(set->epfd, EPOLL_CTL_DEL, fd, nullptr);
    e = nullptr;
  }
  if (e != nullptr) return change_entry(e, op, event);
  return op == EPOLL_CTL_ADD ? add_connection(set, s, fd, *event) : -ENOENT;
}

// The common case without the registry and without blocking signals; kPassOn: not this one.
Outcome control_recent(EpollSet* set, int op, const Socket* s, int fd, const epoll_event* event) {
  Hold hold(set->lock);
  if (!hold.owns()) return kPassOn;
  EpollEntry* e = set->recent[fd % kRecent];
  if (e == nullptr || e->set != set || e->fd != fd || e->socket != s || lookup(fd) != s ||
      e->watched != Watched::kConnection || (e->events & kFixedInKernel) != 0 ||
      (op != EPOLL_CTL_DEL && (event->events & kFixedInKernel) != 0)) {
    return kPassOn;
  }
  return change_entry(e, op, event);
}

// Sockets that the kernel itself watches under the program's data.
long control_plain(EpollSet* set, int op, Socket* s, int fd, epoll_event* event) {
  const bool listener = s->kind.load(std::memory_order_acquire) == Kind::kListener;
  const int kernel_fd = listener ? waiting_descriptor(fd, s) : fd;
  EpollEntry* e = find(s, set, fd);
  int r = 0;
  if (kernel_fd != fd && event != nullptr) {
    // What stands for the listener is an epoll instance, for which the kernel knows no exclusive
    // waits: without them more than one waiter may be woken, which the program must expect anyway.
    const std::uint32_t exclusive = event->events & EPOLLEXCLUSIVE;
    if (op == EPOLL_CTL_MOD &&
        (exclusive != 0 || (e != nullptr && (e->events & EPOLLEXCLUSIVE) != 0))) {
      return -EINVAL;
    }
    epoll_event shared = *event;
    shared.events &= ~exclusive;
    r = sys::epoll_ctl(set->epfd, op, kernel_fd, &shared);
  } else {
    r = sys::epoll_ctl(set->epfd, op, kernel_fd, event);
  }
  if (r == -ENOENT && e != nullptr && e->spent) {
    // One-shot, reported before its connection was downgraded: the kernel is told of it only now.
    e->spent = false;
    if (op == EPOLL_CTL_DEL) r = 0;
    if (op == EPOLL_CTL_MOD) r = sys::epoll_ctl(set->epfd, EPOLL_CTL_ADD, kernel_fd, event);
  }
  if (r < 0) return r;
  if (op == EPOLL_CTL_DEL) {
    if (e != nullptr) forget(e);
  } else if (e != nullptr) {
    e->events = event->events;
    e->data = event->data;
  } else {
    const bool nested = s->kind.load(std::memory_order_acquire) == Kind::kEpoll;
    // Without memory the kernel's registration works; only a later change would be missed.
    remember(set, s, fd, *event, nested ? Watched::kEpoll : Watched::kPlain);
    if (nested) kick(set);
  }
  return 0;
}

}  // namespace

Outcome control_epoll(int epfd, int op, int fd, epoll_event* event) {
  if (op != EPOLL_CTL_DEL && event == nullptr) return kPassOn;  // EFAULT
  if (op != EPOLL_CTL_ADD && op != EPOLL_CTL_DEL && op != EPOLL_CTL_MOD) return kPassOn;
  // Pinned: a close() meanwhile in another thread must find the registration and drop it.
  const Pin owner_pin(epfd);
  const Pin pin(fd);
  Socket* owner = owner_pin.socket;
  Socket* s = pin.socket;
  if (owner == nullptr || owner->kind.load(std::memory_order_acquire) != Kind::kEpoll) {
    return kPassOn;
  }
  if (s == nullptr) return kPassOn;
  EpollSet* set = owner->epoll;
  use_set(set);
  const Outcome quick = control_recent(set, op, s, fd, event);
  if (quick != kPassOn) return quick;
  SignalsBlocked blocked;
  const Registering making;
  Hold registered(registry);
  if (lookup(fd) != s || lookup(epfd) != owner) return kPassOn;
  Hold hold(set->lock);
  set->epfd = epfd;
  if (s->kind.load(std::memory_order_acquire) == Kind::kConnection) {
    return control_connection(set, op, s, fd, event);
  }
  return control_plain(set, op, s, fd, event);
}

}  // namespace shunt::sockets
