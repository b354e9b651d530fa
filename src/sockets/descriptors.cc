#include "sockets/descriptors.h"

#include <algorithm>
#include <cerrno>

#include "base/untrusted.h"
#include "ring/fence.h"
#include "sockets/area_source.h"
#include "sockets/bell.h"
#include "sockets/downgrade.h"
#include "sockets/epoll_internal.h"
#include "sockets/establish.h"
#include "sockets/listener.h"
#include "sockets/options.h"
#include "sockets/status.h"
#include "sockets/stream.h"
#include "sys/kernel.h"

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_UNSHARE 2
#define CLOSE_RANGE_CLOEXEC 4
#endif

namespace shunt::sockets {
namespace {

int process_id = 0;
constexpr std::int64_t kForkPatienceNs = 50'000'000;
constexpr std::int64_t kClosePatienceNs = 10'000'000'000;  // blocking; a tenth of it otherwise
constexpr unsigned kInternalBelow = 20'000;                // move_high() stays near its floor

struct OwnSearch {
  int fd;
  bool found;
};

// With a connection, no ring or drain may be under way on a number while it changes hands: Still.
Connection* connection_of(const Socket* s) {
  return s != nullptr && s->kind.load(std::memory_order_acquire) == Kind::kConnection
             ? s->connection
             : nullptr;
}

// Before a descriptor of `s` goes: whether it is this process's last. `pins`: the caller's own.
void announce_if_last(Socket* s, std::uint32_t pins) {
  if (s->kind.load(std::memory_order_acquire) != Kind::kConnection) return;
  if (s->refs.load(std::memory_order_acquire) == 1 + pins) announce_close(s);
}

// Before that, with no lock held: a peer that has downgraded the connection reads the bell alone, and what we
// wrote into the area would be lost. `deadline`: monotonic ns; 0: as patient as the socket.
void finish_sending(int fd, Socket* s, std::uint32_t pins, std::int64_t deadline) {
  if (s->kind.load(std::memory_order_acquire) != Kind::kConnection) return;
  if (s->refs.load(std::memory_order_acquire) != 1 + pins) return;
  if (s->connection->peer.load(std::memory_order_acquire) == nullptr) look_at_bell(fd, s);
  absorb_events(s->connection);
  follow_downgrade(fd, s);
  if (!downgraded(s->connection)) return;
  if (deadline == 0) {
    const bool waits = !s->connection->nonblocking.load(std::memory_order_relaxed);
    deadline = sys::monotonic_ns() + (waits ? kClosePatienceNs : kClosePatienceNs / 10);
  }
  send_rest_before_close(fd, s, deadline);
}

// The last close is announced like a ring: a peer that switches either waits until it is done, and then finds what
// we have written in our area, or is seen here, and what we have written is sent over the bell first.
class Leave {
 public:
  // With the connection's locks held. `pins`: the caller's own.
  Leave(int fd, const Socket* s, std::uint32_t pins) {
    const bool last = s != nullptr &&
                      s->kind.load(std::memory_order_acquire) == Kind::kConnection &&
                      s->refs.load(std::memory_order_acquire) == 1 + pins &&
                      s->connection->holders.load(std::memory_order_acquire) == 1;
    if (!last || s->connection->relayed || downgraded(s->connection)) return;
    const layout::Area* peer = s->connection->peer.load(std::memory_order_acquire);
    line_ = &s->connection->own->switch_line;
    line_->ringing.fetch_add(1, std::memory_order_seq_cst);
    ring::full_fence();
    if (peer != nullptr) {
      switching_ = Untrusted(peer->switch_line.plain).copy_acquire() != layout::kCarrying;
    } else if (!s->connection->gone_noticed.load(std::memory_order_relaxed)) {
      // CONNECTED may have come, and more behind it. If it has not, the peer will see that we leave.
      pollfd p{fd, POLLIN, 0};
      const timespec now{0, 0};
      switching_ = sys::ppoll(&p, 1, &now, nullptr) == 1;
    }
  }
  ~Leave() {
    if (line_ != nullptr) line_->ringing.fetch_sub(1, std::memory_order_release);
  }
  Leave(const Leave&) = delete;
  Leave& operator=(const Leave&) = delete;
  // False: release the locks, finish_sending(), and try again.
  bool allowed() const { return !switching_; }
  void for_good() { line_ = nullptr; }  // at exit: the kernel closes, later

 private:
  layout::SwitchLine* line_ = nullptr;
  bool switching_ = false;
};
constexpr int kLeaveTries = 1000;  // then without: a peer that says it switches for ever

// Has `go` done, which closes `fd`, where a peer's downgrade cannot lose what was written before. `s`: what `fd`
// names, pinned, or null. `go` gets the Leave, and runs with the connection's locks held.
template <typename Go>
void leave_with(int fd, Socket* s, std::uint32_t pins, std::int64_t deadline, Go go) {
  for (int i = 0;; ++i) {
    if (s != nullptr) finish_sending(fd, s, pins, deadline);
    const Still still(connection_of(s));
    Leave leave(fd, s, pins);
    if (!leave.allowed() && i < kLeaveTries) {
      sys::sched_yield();
      continue;
    }
    go(leave);
    return;
  }
}

// Of the descriptors of one socket, the lowest: to visit each socket once.
bool is_first(int fd, const Socket* s) {
  return s->refs.load(std::memory_order_relaxed) == 1 || next_descriptor(s, 0, -1) == fd;
}

}  // namespace

bool in_vfork_child() { return process_id != 0 && sys::getpid() != process_id; }

void remember_process() { process_id = sys::getpid(); }

bool is_internal(int fd) {
  if (fd < sys::lowest_high()) return false;  // spare the search for common numbers
  if (is_status_fd(fd)) return true;
  OwnSearch search{fd, false};
  for_each(
      [](int, Socket* s, void* context) {
        auto* own = static_cast<OwnSearch*>(context);
        const Listener* l = s->listener;
        if (s->reservation == own->fd || (s->epoll != nullptr && s->epoll->kick == own->fd) ||
            (l != nullptr && (l->rendezvous == own->fd || l->waiter == own->fd))) {
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

long close_descriptor(int fd) {
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

long duplicate(int fd) {
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

long duplicate_from(int fd, int lowest, bool close_on_exec) {
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

long duplicate_to(int from, int to, int flags) {
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
  leave_with(to, target, 1, 0, [&](const Leave& /*leave*/) {
    if (target != nullptr && sys::fcntl(from, F_GETFD) >= 0) announce_if_last(target, 1);
    r = sys::dup3(from, to, flags);
    if (r >= 0) taken = take_out(to);
    if (r >= 0 && source != nullptr) enter_again(to, source);
  });
  if (taken != nullptr) drop_reference(taken);
  if (target != nullptr) unpin(target);
  if (source != nullptr) unpin(source);
  return r;
}

long close_descriptors(unsigned first, unsigned last, int flags) {
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

long control_descriptor(int fd, Socket* s, int command, long argument) {
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

namespace {

// A connection whose CONNECTED has not come: after the fork only one of the processes will receive it,
// and the address where it maps the second area is in the page that both share. So wait a little for
// the accept() that is under way; else set the same addresses aside in both. The process that comes
// second finds nothing there: no stranger's memory is read or unmapped, but its use of the connection
// resets it.
void settle_second_area(int fd, Socket* s, std::int64_t deadline_ns) {
  Connection* c = s->connection;
  look_at_bell(fd, s);
  const std::int64_t left = deadline_ns - sys::monotonic_ns();
  if (c->peer.load(std::memory_order_relaxed) == nullptr && left > 0) {
    pollfd p{fd, POLLIN, 0};
    const timespec timeout{0, left};
    sys::ppoll(&p, 1, &timeout, nullptr);
    look_at_bell(fd, s);
  }
  if (c->peer.load(std::memory_order_relaxed) == nullptr && c->reserved == nullptr) {
    c->reserved = reserve_area(c->map_bytes);
  }
}

}  // namespace

void before_fork() {
  std::int64_t deadline_ns = sys::monotonic_ns() + kForkPatienceNs;
  connections_before_fork();
  for_each(
      [](int fd, Socket* s, void* deadline) {
        if (s->kind.load(std::memory_order_acquire) != Kind::kConnection) return;
        Connection* c = s->connection;
        if (c->peer.load(std::memory_order_relaxed) == nullptr) {
          settle_second_area(fd, s, *static_cast<std::int64_t*>(deadline));
        }
        if (is_first(fd, s)) c->holders.fetch_add(1, std::memory_order_relaxed);
      },
      &deadline_ns, 0, table_limit());
  rouse_missed();
}

void before_exit() {
  std::int64_t deadline = sys::monotonic_ns() + kClosePatienceNs;
  for_each(
      [](int fd, Socket* s, void* until) {
        if (!is_first(fd, s)) return;
        const std::uint32_t others = s->refs.load(std::memory_order_relaxed) - 1;
        leave_with(fd, s, others, *static_cast<std::int64_t*>(until),
                   [](Leave& leave) { leave.for_good(); });
      },
      &deadline, 0, table_limit());
}

void after_fork_in_child() {
  forget_thread_id();
  remember_process();
  sockets_after_fork();
  connections_after_fork();
  epolls_after_fork();
  listeners_after_fork();
  status_after_fork();
}

}  // namespace shunt::sockets
