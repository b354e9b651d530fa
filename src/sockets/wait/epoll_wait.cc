#include "sockets/wait/epoll_wait.h"

#include <algorithm>
#include <cassert>
#include <cerrno>

#include "base/trace.h"
#include "base/untrusted.h"
#include "sockets/bell/look.h"
#include "sockets/connection/carriage.h"
#include "sockets/connection/idle_memory.h"
#include "sockets/connection/peer_place.h"
#include "sockets/downgrade/moving_rest.h"
#include "sockets/process/missed.h"
#include "sockets/process/result.h"
#include "sockets/thread/cancel.h"
#include "sockets/wait/epoll_entry.h"
#include "sockets/wait/epoll_registry.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

// Looks in vain after which a hot entry is armed although the loop stays busy.
constexpr std::uint32_t kIdleLooks = 256;
constexpr int kKernelBatch = 64;
// A bell holds some 270 single bytes; several epoll sets may each leave this many.
constexpr std::uint32_t kRingsLeft = 32;

long kernel_wait(int epfd, epoll_event* events, int max, const timespec* timeout,
                 const sigset_t* mask) {
  long r = sys::epoll_pwait2(epfd, events, max, timeout, mask);
  if (r == -ENOSYS) {  // before Linux 5.11
    const long ms =
        timeout == nullptr ? -1 : timeout->tv_sec * 1000 + (timeout->tv_nsec + 999'999) / 1'000'000;
    r = sys::raw(SYS_epoll_pwait, epfd, sys::arg(events), max, ms, sys::arg(mask),
                 sys::kKernelSigsetBytes);
  }
  return r;
}

// Reports hot entries into events[0, max). With the set's lock held.
int scan(EpollSet* set, epoll_event* events, int max) {
  assert(set->lock.held_by_me());
  int n = 0;
  EpollEntry* e = set->hot;
  if (e == nullptr) return 0;
  EpollEntry* const last = e->previous_hot;
  for (bool more = true; more && n < max;) {
    EpollEntry* const next = e->next_hot;
    more = e != last;
    const std::uint32_t due = due_events(e, true);
    if (due != 0) {
      events[n].events = due;
      events[n].data = e->data;
      ++n;
      e->idle_looks = 0;
      set->hot = e->next_hot;  // the next scan starts behind it: nobody starves
    } else if (++e->idle_looks > kIdleLooks && !arm(e)) {
      make_cold(e);
    }
    e = next;
  }
  return n;
}

// A plain ring says no more than that the entry is hot now. The watch is edge-triggered, so its byte
// may stay on the bell; it is read before the bell could fill up, or by the next level-triggered
// sleeper. CONNECTED and the end of the peer are looked at.
void answer_bell(EpollEntry* e, std::uint32_t kernel_events) {
  Connection* c = e->socket->connection;
  const bool hang_up = (kernel_events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) != 0;
  const bool plain = !hang_up && c->peer.load(std::memory_order_acquire) != nullptr;
  if (plain && c->bell_state.left.fetch_add(1, std::memory_order_relaxed) < kRingsLeft) return;
  c->bell_state.left.store(0, std::memory_order_relaxed);
  look_at_bell(e->fd, e->socket, hang_up);  // an edge comes once: look behind the rings too
}

// Sorts kernel events: the program's own go to `out`, ours make entries hot. Returns how many are
// the program's. With the set's lock held.
int sort_events(EpollSet* set, const epoll_event* events, int count, epoll_event* out) {
  assert(set->lock.held_by_me());
  int n = 0;
  for (int i = 0; i < count; ++i) {
    bool kicked = false;
    EpollEntry* e = entry_of(events[i].data.u64, set, &kicked);
    if (kicked) {
      std::uint64_t value;
      if (set->kick != 0) sys::read(set->kick, &value, sizeof value);
      continue;
    }
    if (e == nullptr || e->watched != Watched::kConnection) {
      out[n] = events[i];
      // Downgraded, and its number closed while a duplicate is open: still watched under our cookie.
      if (e != nullptr) out[n].data = e->data;
      ++n;
      continue;
    }
    disarm(e);
    make_hot(e);  // unless dormant
    if (off_rings(e->socket->connection)) {
      e->fresh = true;
      // Also for an entry that reports nothing now: its rest leaves.
      events_with_rest(e->fd, e->socket, 0);
    } else {
      answer_bell(e, events[i].events);
    }
    e->idle_looks = 0;
  }
  return n;
}

// Nested instances with something to report that their kernel side does not show.
int scan_nested(EpollSet* set, epoll_event* events, int max) {
  assert(set->lock.held_by_me());
  if (set->nested == 0) return 0;  // as nearly always: spare the walk over all entries
  int n = 0;
  for (EpollEntry* e = set->entries; e != nullptr && n < max; e = e->next_of_set) {
    if (e->watched != Watched::kEpoll || (e->events & EPOLLIN) == 0) continue;
    if (!epoll_has_hot_event(e->socket)) continue;
    events[n].events = EPOLLIN;
    events[n].data = e->data;
    ++n;
  }
  return n;
}

int kernel_look(EpollSet* set, int epfd, epoll_event* out, int max) {
  epoll_event events[kKernelBatch];
  const timespec now{0, 0};
  const long r = kernel_wait(epfd, events, std::min(max, kKernelBatch), &now, nullptr);
  return r > 0 ? sort_events(set, events, static_cast<int>(r), out) : 0;
}

// One round without sleeping. The kernel's sockets are asked whenever shunted ones are reported, as
// far as there is room, so neither kind hides the other; `look`: ask in any case.
int collect(EpollSet* set, int epfd, epoll_event* events, int max, bool look) {
  Hold hold(set->lock);
  if (!hold.owns()) return 0;
  int n = scan(set, events, max);
  if (n < max && (look || n > 0)) {
    const int kernel = kernel_look(set, epfd, events + n, max - n);
    if (n == 0 && kernel < max) n = scan(set, events + kernel, max - kernel);
    n += kernel;
  }
  if (n == 0) n = scan_nested(set, events, max);
  return n;
}

bool hot_moved(EpollSet* set) {
  Hold hold(set->lock);
  if (!hold.owns() || set->hot == nullptr) return false;
  EpollEntry* e = set->hot;
  do {
    const Connection* c = e->socket->connection;
    const layout::Area* peer = c->peer.load(std::memory_order_relaxed);
    if (peer != nullptr ? Untrusted(peer->hot.head).copy() != e->reported_head ||
                              Untrusted(peer->hot.flags).copy() != 0
                        : has_answered(c)) {
      if (due_events(e, false) != 0) return true;
    }
    e = e->next_hot;
  } while (e != set->hot);
  return false;
}

// Arms every hot entry. False: one of them has an event after all.
bool arm_all(EpollSet* set) {
  assert(set->lock.held_by_me());
  while (set->hot != nullptr) {
    EpollEntry* e = set->hot;
    if (arm(e)) return false;
    make_cold(e);
  }
  return true;
}

// A sleeper was cancelled. The kernel may have handed it events that nobody else is told of: every
// entry is looked at again, by a sleeper of the same set too.
void abandon_sleep(EpollSet* set) {
  set->sleepers.fetch_sub(1, std::memory_order_seq_cst);
  Hold hold(set->lock);
  if (!hold.owns()) return;
  for (EpollEntry* e = set->entries; e != nullptr; e = e->next_of_set) {
    if (e->watched != Watched::kConnection) continue;
    disarm(e);
    make_hot(e);
  }
  kick(set);
}

// Sleeps in the kernel once, a cancellation point. > 0: events for the program in `events`; 0: look again; -EINTR.
// *timed_out: the kernel's wait ran out.
long sleep_once(EpollSet* set, int epfd, epoll_event* events, int max, std::int64_t deadline,
                const sigset_t* mask, bool* timed_out) {
  trim_idle();
  timespec left{};
  if (deadline >= 0) {
    left = sys::timespec_of(std::max<std::int64_t>(0, deadline - sys::monotonic_ns()));
  }
  {
    Hold hold(set->lock);
    if (!arm_all(set)) return 0;
    set->sleepers.fetch_add(1, std::memory_order_seq_cst);
  }
  epoll_event kernel_events[kKernelBatch];
  SHUNT_TRACE(epoll_sleep, epfd, deadline);
  const std::uint64_t begin = ticks();
  long r = 0;
  {
    const Undo undo([set] { abandon_sleep(set); });
    const CancelPoint point;
    r = kernel_wait(epfd, kernel_events, std::min(max, kKernelBatch),
                    deadline >= 0 ? &left : nullptr, mask);
  }
  const std::uint64_t slept_us = (ticks() - begin) / ticks_per_us;
  SHUNT_TRACE(epoll_wake, epfd, r, slept_us);
  set->spin.slept(static_cast<std::uint32_t>(std::min<std::uint64_t>(slept_us, 1'000'000)));
  set->sleepers.fetch_sub(1, std::memory_order_seq_cst);
  if (r < 0) return r;
  *timed_out = r == 0 || (deadline >= 0 && sys::monotonic_ns() >= deadline);
  Hold hold(set->lock);
  return sort_events(set, kernel_events, static_cast<int>(r), events);
}

// Before a wait leaves while other threads sleep on the same set: what it found or was woken for is hot
// now, and nobody would ring the others for more of it. What is due all the same, one of them reports.
void hand_on(EpollSet* set) {
  if (set->hot == nullptr || set->sleepers.load(std::memory_order_seq_cst) == 0) return;
  Hold hold(set->lock);
  if (hold.owns() && !arm_all(set)) signal(set);
}

}  // namespace

bool epoll_has_hot_event(Socket* s) {
  EpollSet* set = s->epoll;
  if (set == nullptr || set->special.load(std::memory_order_relaxed) == 0) return false;
  Hold hold(set->lock);
  return hold.owns() && !arm_all(set);
}

Outcome wait_epoll(int epfd, epoll_event* events, int max, std::int64_t timeout_ns,
                   const sigset_t* mask) {
  Socket* s = lookup_pinned(epfd);
  if (s == nullptr) return kPassOn;
  EpollSet* set = s->epoll;
  if (s->kind.load(std::memory_order_acquire) != Kind::kEpoll || max <= 0 || set == nullptr ||
      (!set->has_cookies.load(std::memory_order_relaxed) && timeout_ns == 0)) {
    unpin(s);
    return kPassOn;
  }
  use_set(set);
  const std::int64_t deadline = timeout_ns < 0 ? -1 : sys::monotonic_ns() + timeout_ns;
  long result = 0;
  for (bool timed_out = timeout_ns == 0;;) {
    result = collect(set, epfd, events, max, timed_out);
    rouse_missed();
    if (result != 0 || timed_out) break;
    if (set->hot != nullptr) {
      const Spin spun = spin_until(set->spin, deadline, [set] { return hot_moved(set); });
      if (spun == Spin::kReady) continue;
      if (spun != Spin::kNothing) {
        result = -EINTR;
        break;
      }
    }
    {
      const Undo undo([s] { unpin(s); });
      result = sleep_once(set, epfd, events, max, deadline, mask, &timed_out);
    }
    rouse_missed();
    if (result < 0) break;
    if (result > 0 && result < max) {
      Hold hold(set->lock);
      result += scan(set, events + result, max - static_cast<int>(result));
    }
    if (result > 0) break;
  }
  hand_on(set);
  rouse_missed();
  unpin(s);
  return result;
}

}  // namespace shunt::sockets
