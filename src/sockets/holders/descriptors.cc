#include "sockets/holders/descriptors.h"

#include <algorithm>
#include <cerrno>

#include "sockets/holders/inherit.h"
#include "sockets/holders/last_close.h"
#include "sockets/process/identity.h"
#include "sockets/process/result.h"
#include "sockets/process/status.h"
#include "sockets/setup/listener.h"
#include "sockets/wait/epoll_set.h"
#include "sys/kernel.h"

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_UNSHARE 2
#define CLOSE_RANGE_CLOEXEC 4
#endif

namespace shunt::sockets {
namespace {

constexpr unsigned kInternalBelow = 20'000;  // move_high() stays near its floor

struct OwnSearch {
  int fd;
  bool found;
};

}  // namespace

bool is_internal(int fd) {
  if (fd < sys::lowest_high()) return false;  // spare the search for common numbers
  if (is_status_fd(fd) || is_arena_fd(fd)) return true;
  OwnSearch search{fd, false};
  for_each(
      [](int, Socket* s, void* context) {
        auto* own = static_cast<OwnSearch*>(context);
        const Listener* l = s->listener;
        if (s->reservation == own->fd || (s->epoll != nullptr && s->epoll->kick == own->fd) ||
            (l != nullptr && (l->rendezvous == own->fd || l->waiter == own->fd ||
                              l->signals.is(own->fd) || (own->fd > 0 && l->spare == own->fd)))) {
          own->found = true;
        }
        for (int i = 0; l != nullptr && i < l->pending_count; ++i) {
          if (l->pending[i] == own->fd) own->found = true;
        }
      },
      &search, 0, table_limit());
  return search.found;
}

Socket* begin_forget(int fd) {
  if (lookup(fd) == nullptr || in_vfork_child()) return nullptr;
  Socket* s = lookup_pinned(fd);
  if (s == nullptr) return nullptr;
  finish_sending(fd, s, 1, 0);
  unpin(s);
  const Still still(connection_of(s));
  s = take_out(fd);
  if (s != nullptr) announce_if_last(s, 0);
  return s;
}

void finish_forget(Socket* s) {
  if (s != nullptr) drop_reference(s);
}

Outcome close_descriptor(int fd) {
  if (lookup(fd) == nullptr) {
    if (is_internal(fd) && !in_vfork_child()) return -EBADF;
    return kPassOn;
  }
  if (in_vfork_child()) return kPassOn;
  Socket* s = lookup_pinned(fd);
  if (s == nullptr) return kPassOn;
  Socket* taken = nullptr;
  long r = 0;
  leave_with(fd, s, 1, 0, [&](const Leave& /*leave*/) {
    taken = take_out(fd);
    if (taken == s) announce_if_last(s, 1);
    r = sys::close(fd);
  });
  if (taken != nullptr) drop_reference(taken);
  unpin(s);
  return r;
}

Outcome duplicate(int fd) {
  if (lookup(fd) == nullptr) return kPassOn;
  if (in_vfork_child()) {
    return downgrade_for_passing(fd) == 0 ? kPassOn : sys::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  }
  Socket* s = lookup_pinned(fd);
  const int r = sys::dup(fd);
  if (s == nullptr) return r;
  if (r >= 0) enter_again(r, s);
  unpin(s);
  return r;
}

Outcome duplicate_from(int fd, int lowest, bool close_on_exec) {
  if (lookup(fd) == nullptr) return kPassOn;
  if (in_vfork_child()) {
    return downgrade_for_passing(fd) == 0 ? kPassOn : sys::fcntl(fd, F_DUPFD_CLOEXEC, lowest);
  }
  Socket* s = lookup_pinned(fd);
  const int r = sys::fcntl(fd, close_on_exec ? F_DUPFD_CLOEXEC : F_DUPFD, lowest);
  if (s == nullptr) return r;
  if (r >= 0) enter_again(r, s);
  unpin(s);
  return r;
}

Outcome duplicate_to(int from, int to, int flags) {
  if (in_vfork_child()) {
    return downgrade_for_passing(from) == 0 ? kPassOn : sys::dup3(from, to, flags | O_CLOEXEC);
  }
  if (from == to) return lookup(from) != nullptr ? -EINVAL : kPassOn;
  Socket* source = lookup_pinned(from);
  Socket* target = lookup_pinned(to);
  if (source == nullptr && target == nullptr) {
    return is_internal(to) ? -EBUSY : kPassOn;
  }
  Socket* taken = nullptr;
  long r = 0;
  leave_with(to, target, 1, 0, [&](Leave& leave) {
    if (target != nullptr && sys::fcntl(from, F_GETFD) >= 0) announce_if_last(target, 1);
    r = sys::dup3(from, to, flags);
    if (r < 0) leave.undo();
    if (r >= 0) taken = take_out(to);
    if (r >= 0 && source != nullptr) enter_again(to, source);
  });
  if (taken != nullptr) drop_reference(taken);
  if (target != nullptr) unpin(target);
  if (source != nullptr) unpin(source);
  return r;
}

Outcome close_descriptors(unsigned first, unsigned last, int flags) {
  if (in_vfork_child() || (flags & CLOSE_RANGE_CLOEXEC) != 0 || first > last) return kPassOn;
  if ((flags & CLOSE_RANGE_UNSHARE) != 0) {
    const long r = sys::raw(SYS_unshare, 0x400 /* CLONE_FILES */);
    if (r < 0) return r;
  }
  // Ours one by one; the gaps between them, and between the provider's own descriptors, in ranges.
  const int end = std::max(table_limit(), 0);
  unsigned from = first;
  for (unsigned fd = first; fd <= last && fd < static_cast<unsigned>(1 << 20); ++fd) {
    const bool ours = static_cast<int>(fd) < end && lookup(static_cast<int>(fd)) != nullptr;
    if (!ours && !is_internal(static_cast<int>(fd))) {
      if (static_cast<int>(fd) >= end && fd > kInternalBelow) break;
      continue;
    }
    if (fd > from) sys::raw(SYS_close_range, from, fd - 1, 0);
    if (ours) close_descriptor(static_cast<int>(fd));
    from = fd + 1;
  }
  return from <= last ? sys::raw(SYS_close_range, from, last, 0) : 0;
}

void set_nonblocking(int fd, Socket* s, bool on) {
  const Kind kind = s->kind.load(std::memory_order_acquire);
  if (kind == Kind::kListener) {
    Hold hold(s->lock);
    if (s->listener != nullptr) s->listener->program_nonblocking = on;
    return;
  }
  const int flags = sys::fcntl(fd, F_GETFL);
  sys::fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
  if (kind == Kind::kConnection) s->connection->nonblocking.store(on, std::memory_order_relaxed);
}

Outcome control_descriptor(int fd, Socket* s, int command, long argument) {
  const Kind kind = s->kind.load(std::memory_order_acquire);
  if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) {
    return duplicate_from(fd, static_cast<int>(argument), command == F_DUPFD_CLOEXEC);
  }
  if (kind != Kind::kConnection && kind != Kind::kListener) return kPassOn;
  if (command == F_GETFL && kind == Kind::kListener) {
    const int flags = sys::fcntl(fd, F_GETFL);
    Hold hold(s->lock);
    if (flags < 0 || s->listener == nullptr) return flags;
    return s->listener->program_nonblocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
  }
  if (command == F_SETFL) {
    const bool on = (argument & O_NONBLOCK) != 0;
    const bool listener = kind == Kind::kListener;
    const int r = sys::fcntl(fd, F_SETFL, listener ? argument | O_NONBLOCK : argument);
    if (r >= 0) set_nonblocking(fd, s, on);
    return r;
  }
  return kPassOn;
}

}  // namespace shunt::sockets
