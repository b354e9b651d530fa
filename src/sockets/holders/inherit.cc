#include "sockets/holders/inherit.h"

#include <poll.h>

#include <cerrno>

#include "sockets/bell/look.h"
#include "sockets/downgrade/downgrade.h"
#include "sockets/downgrade/follow.h"
#include "sockets/holders/orphan.h"
#include "sockets/process/identity.h"
#include "sockets/process/missed.h"
#include "sockets/process/status.h"
#include "sockets/setup/listener.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

// 0: nothing in the way of handing `fd` on. With the socket pinned.
long prepare(int fd, Socket* s, std::int64_t deadline) {
  const Kind kind = s->kind.load(std::memory_order_acquire);
  if (kind == Kind::kListener) share_listener(fd, s);
  if (kind != Kind::kConnection || !names_bell(fd, s)) return 0;
  switch (downgrade(fd, s, deadline)) {
    case Downgraded::kYes:
      return 0;
    case Downgraded::kPeerGone:
      return move_to_pair(fd, s);
    case Downgraded::kNotNow:
      break;
  }
  return -EAGAIN;
}

struct Walk {
  KeptBack* kept;
  const Socket* stuck;    // cannot be downgraded: not tried again for each of its descriptors
  std::int64_t deadline;  // for all of them together
  bool handed_on = false;
};

// A listener at a number where a program looks for what it is given, or under a second one, is handed on to be
// served: the clients under Shunt must find that program too, so from now on they come by kernel TCP. Any other
// is there by leak.
bool meant_for_the_child(int fd, const Socket* s) {
  return fd <= 2 || s->refs.load(std::memory_order_relaxed) > 2;  // one is the walk's own pin
}

// When the peer is gone its last bytes are moved to a fresh socket, which this process has for itself. Others that
// share the connection, and the parent of a vfork child, would be left with the empty bell: not for a leak.
bool would_rob_others(int fd, const Socket* s) {
  const Connection* c = s->connection;
  const bool alone = c->holders.load(std::memory_order_acquire) <= 1 && !in_vfork_child();
  if (alone || (!in_vfork_child() && meant_for_the_child(fd, s))) return false;
  return c->gone_noticed.load(std::memory_order_relaxed) || c->state.dead || hung_up(fd);
}

// In a vfork child the table is the parent's, but the kernel answers for the child's descriptors.
void hand_on(int fd, Socket* seen, void* context) {
  const Kind kind = seen->kind.load(std::memory_order_acquire);
  if (kind != Kind::kConnection && kind != Kind::kListener) return;
  const int flags = sys::fcntl(fd, F_GETFD);
  if (flags < 0 || (flags & FD_CLOEXEC) != 0) return;
  auto* walk = static_cast<Walk*>(context);
  Socket* s = lookup_pinned(fd);
  if (s == nullptr) return;
  if (kind == Kind::kListener && meant_for_the_child(fd, s)) leave_rendezvous(fd, s);
  const bool robs = kind == Kind::kConnection && would_rob_others(fd, s);
  if (s == walk->stuck || robs || prepare(fd, s, walk->deadline) != 0) {
    if (s != walk->stuck) count_kept_back();
    walk->stuck = s;
    sys::fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
    if (walk->kept->count < KeptBack::kMost) walk->kept->fds[walk->kept->count++] = fd;
  } else if (kind == Kind::kConnection) {
    walk->handed_on = true;
  }
  unpin(s);
}

// The other end may be in this very process, with nobody about to call anything on it.
void follow(int fd, Socket* seen, void* /*context*/) {
  if (seen->kind.load(std::memory_order_acquire) != Kind::kConnection) return;
  Socket* s = lookup_pinned(fd);
  if (s == nullptr) return;
  if (s->kind.load(std::memory_order_acquire) == Kind::kConnection && names_bell(fd, s)) {
    if (s->connection->peer.load(std::memory_order_acquire) == nullptr) look_at_bell(fd, s);
    absorb_events(s->connection);
    follow_downgrade(fd, s);
  }
  unpin(s);
}

}  // namespace

void downgrade_inherited(KeptBack* kept) {
  kept->count = 0;
  Walk walk{kept, nullptr, sys::monotonic_ns() + 1'000'000'000};
  for_each(hand_on, &walk, 0, table_limit());
  if (walk.handed_on) for_each(follow, nullptr, 0, table_limit());
  rouse_missed();
}

void release_kept(const KeptBack& kept) {
  for (int i = 0; i < kept.count; ++i) {
    const int flags = sys::fcntl(kept.fds[i], F_GETFD);
    if (flags >= 0 && lookup(kept.fds[i]) != nullptr) {
      sys::fcntl(kept.fds[i], F_SETFD, flags & ~FD_CLOEXEC);
    }
  }
}

long downgrade_for_passing(int fd) {
  Socket* s = lookup_pinned(fd);
  if (s == nullptr) return 0;
  if (s->kind.load(std::memory_order_acquire) == Kind::kListener) leave_rendezvous(fd, s);
  const bool connection = s->kind.load(std::memory_order_acquire) == Kind::kConnection;
  const long r = prepare(fd, s, 0);
  if (r != 0) count_kept_back();
  unpin(s);
  if (connection && r == 0) for_each(follow, nullptr, 0, table_limit());
  rouse_missed();
  return r;
}

}  // namespace shunt::sockets
