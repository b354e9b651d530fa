#include "sockets/downgrade/downgrade.h"

#include <algorithm>
#include <cassert>
#include <cerrno>

#include "base/untrusted.h"
#include "ring/fence.h"
#include "sockets/bell/bell.h"
#include "sockets/bell/look.h"
#include "sockets/connection/carriage.h"
#include "sockets/downgrade/entry.h"
#include "sockets/downgrade/follow.h"
#include "sockets/downgrade/plain_bell.h"
#include "sys/kernel.h"
#include "wire/message.h"

namespace shunt::sockets {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr std::int64_t kPatienceNs = 1'000'000'000;
constexpr int kBusyPauses = 200;
constexpr int kLastTries = 100;
constexpr int kLastPauses = 10;

// Waits for something that the peer does between two instructions of a downgrade. False: it did not. With no time left
// an honest peer still gets what that takes it.
template <typename Done>
bool await(int fd, std::int64_t deadline, Done done) {
  for (int tries = 1;; ++tries) {
    if (done()) return true;
    if (hung_up(fd)) return done();
    if (tries > kLastTries && sys::monotonic_ns() > deadline) return false;
    sys::sched_yield();
  }
}

std::uint32_t peer_plain(const Connection* c) {
  return Untrusted(c->peer.load(kRelaxed)->switch_line.plain).copy_acquire();
}

// The last part of the own stream that the end that begins copies to the bell: what its buffer surely takes.
std::uint64_t carried_bytes(int fd) {
  int room = 0;
  socklen_t length = sizeof room;
  sys::getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, &length);
  return static_cast<std::uint64_t>(std::max(room, 0)) / 4;
}

bool send_mark(int fd, Connection* c) {
  assert(c->tx.held_by_me());
  ring::Writer writer = c->write_end();
  const std::uint64_t head = c->writer.head;
  const std::uint64_t from = head - std::min(writer.in_flight(), carried_bytes(fd));
  std::uint8_t mark[kMarkBytes] = {wire::kPlainMark};
  for (int i = 0; i < 8; ++i) mark[8 + i] = static_cast<std::uint8_t>(from >> (8 * i));
  constexpr std::size_t kParts = layout::kSegmentCount + 2;
  iovec parts[kParts] = {{mark, sizeof mark}};
  std::size_t used = 1;
  std::size_t size = sizeof mark;
  for (std::uint64_t at = from; at != head && used < kParts; ++used) {
    const std::uint8_t* data = nullptr;
    const std::size_t n = writer.written(at, &data);
    if (n == 0) return false;
    parts[used] = {const_cast<std::uint8_t*>(data), n};
    at += n;
    size += n;
  }
  msghdr m{};
  m.msg_iov = parts;
  m.msg_iovlen = used;
  return size == sizeof mark + (head - from) &&
         sys::sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) == static_cast<long>(size);
}

// A thread sleeps until the peer has read from the area: the ring that would wake it must not be taken away.
bool sleeps_for_room(const Connection* c) {
  return (c->writer.wait_epoch & 1) != 0 &&
         c->bell_state.sleepers.load(std::memory_order_seq_cst) != 0;
}

// An epoll set, perhaps of another process, waits for room and there is none.
bool is_waited_for_room(Connection* c) {
  return c->write_armed_epolls.load(std::memory_order_seq_cst) != 0 && !c->write_end().writable();
}

// The peer's last descriptor is being closed: waits for the end. What the peer has written then lies in its area.
// False also where it has followed us first, or could not close.
bool leaves(int fd, const Connection* c, std::int64_t deadline) {
  const auto stays = [c] { return peer_plain(c) != layout::kLeaving; };
  return !stays() && !await(fd, deadline, stays);
}

enum class Begun { kYes, kPeerFirst, kPeerGone, kBusy, kNoWay };

// The first end's part. With all three locks held.
Begun begin(int fd, const Socket* s, std::int64_t deadline) {
  Connection* c = s->connection;
  assert(c->tx.held_by_me() && c->rx.held_by_me() && c->bell.held_by_me());
  layout::SwitchLine& own = c->own->switch_line;
  own.plain.store(layout::kSwitching, std::memory_order_seq_cst);
  ring::full_fence();  // announce before looking at the peer's line; pairs with ring() and begin()
  const auto no_way = [&own](Begun why) {
    own.plain.store(layout::kCarrying, std::memory_order_release);
    return why;
  };
  // Whoever writes from now on finds that we sleep, comes to ring, and sees that we switch.
  c->read_end().begin_wait();
  if (leaves(fd, c, deadline)) return no_way(hung_up(fd) ? Begun::kPeerGone : Begun::kNoWay);
  if (peer_plain(c) == layout::kSwitching) {
    if (c->connecting_side) own.plain.store(layout::kCarrying, std::memory_order_release);
    await(fd, deadline, [c] { return peer_plain(c) != layout::kSwitching; });
    if (c->connecting_side)
      return peer_plain(c) == layout::kPlain ? Begun::kPeerFirst : Begun::kNoWay;
  }
  if (peer_plain(c) == layout::kPlain) return no_way(Begun::kPeerFirst);
  if (c->write_end().refresh() != ring::Status::kOk) return no_way(Begun::kPeerGone);
  if (is_waited_for_room(c)) return no_way(Begun::kNoWay);
  const auto quiet = [c] {
    return Untrusted(c->peer.load(kRelaxed)->switch_line.ringing).copy_acquire() == 0;
  };
  if (!await(fd, deadline, quiet)) return no_way(hung_up(fd) ? Begun::kPeerGone : Begun::kNoWay);
  if (!read_empty(fd)) return no_way(Begun::kPeerGone);
  prepare_bell(fd, s);
  if (!send_mark(fd, c)) return no_way(hung_up(fd) ? Begun::kPeerGone : Begun::kNoWay);
  own.plain.store(layout::kPlain, std::memory_order_seq_cst);
  ring::full_fence();  // the decision: pairs with Leave
  if (leaves(fd, c, deadline)) return no_way(Begun::kPeerGone);
  c->rest_sent = c->writer.head;
  c->reader.head = c->reader.tail;  // the peer sends over the bell what we have not read
  publish_plain(fd, c);
  apply(c, conn::CarriageEvent::kLeft);
  return Begun::kYes;
}

// With all three locks held: begins, if nothing is in the way.
Begun try_to_begin(int fd, const Socket* s, std::int64_t deadline) {
  const Connection* c = s->connection;
  assert(c->tx.held_by_me() && c->rx.held_by_me() && c->bell.held_by_me());
  if (c->bell_state.shut) return Begun::kNoWay;
  if (c->peer.load(kRelaxed) == nullptr || c->gone_noticed.load(kRelaxed) || c->state.dead ||
      lost(c)) {
    return Begun::kPeerGone;
  }
  return sleeps_for_room(c) ? Begun::kBusy : begin(fd, s, deadline);
}

// A CONNECTED that is under way is waited for. False: the listener has not accepted yet.
bool has_area(int fd, Socket* s, std::int64_t deadline) {
  Connection* c = s->connection;
  for (;;) {
    look_at_bell(fd, s);
    if (c->peer.load(std::memory_order_acquire) != nullptr || c->gone_noticed.load(kRelaxed))
      return true;
    const std::int64_t left = deadline - sys::monotonic_ns();
    if (left <= 0 || !still_under(fd, s, c)) return false;
    // An answer by the area alone wakes nobody.
    constexpr std::int64_t kLookEveryNs = 1'000'000;
    pollfd p{fd, POLLIN, 0};
    const timespec timeout = sys::timespec_of(std::min(left, kLookEveryNs));
    sys::ppoll(&p, 1, &timeout, nullptr);
  }
}

// Sends the rest. A rest that the program has not read yet cannot be put back: kNotNow.
Downgraded finish_rest(int fd, Socket* s, std::int64_t deadline) {
  Connection* c = s->connection;
  for (;;) {
    if (settle(s)) return Downgraded::kYes;
    {
      const Entry in(fd, s, Side::kBoth);
      if (in.way() == Way::kElsewhere) return Downgraded::kYes;
      if (in.way() != Way::kRest || unread_rest(c) != 0) return Downgraded::kNotNow;
      if (unsent_rest(c) == 0)
        return Downgraded::kNotNow;  // an error is still to be reported to this program
      const std::uint64_t before = c->rest_sent;
      if (send_rest(fd, c) < 0 || c->rest_sent != before) continue;
    }
    pollfd p{fd, POLLOUT, 0};
    const std::int64_t left = std::max<std::int64_t>(0, deadline - sys::monotonic_ns());
    const timespec patience = sys::timespec_of(left);
    if (sys::ppoll(&p, 1, &patience, nullptr) == 0) return Downgraded::kNotNow;
  }
}

}  // namespace

Downgraded downgrade(int fd, Socket* s, std::int64_t deadline) {
  const SignalsBlocked blocked;
  Connection* c = s->connection;
  if (c->relayed) return Downgraded::kNotNow;
  if (deadline == 0) deadline = sys::monotonic_ns() + kPatienceNs;
  if (!has_area(fd, s, deadline)) return Downgraded::kNotNow;
  int busy = 0;
  for (int tries = 0; tries < 5; ++tries) {
    Begun begun = Begun::kPeerFirst;
    {
      const Entry in(fd, s, Side::kBoth);
      if (in.way() == Way::kInside || in.way() == Way::kLater) return Downgraded::kNotNow;
      if (in.way() == Way::kElsewhere) return Downgraded::kYes;
      if (in.way() == Way::kRest) break;
      absorb_events(c);
      if (follow_due(c)) continue;
      begun = try_to_begin(fd, s, deadline);
      if (begun == Begun::kPeerFirst) apply(c, conn::CarriageEvent::kPeerLeft);
    }
    if (begun == Begun::kBusy) {
      // The peer does not read: kept back.
      if (++busy > kBusyPauses || (busy > kLastPauses && sys::monotonic_ns() > deadline)) {
        return Downgraded::kNotNow;
      }
      --tries;
      constexpr timespec kPause{0, 100'000};
      sys::raw(SYS_nanosleep, sys::arg(&kPause), 0);
      continue;
    }
    if (begun == Begun::kNoWay) return Downgraded::kNotNow;
    if (begun == Begun::kPeerGone) return Downgraded::kPeerGone;
  }
  return off_rings(c) ? finish_rest(fd, s, deadline) : Downgraded::kNotNow;
}

}  // namespace shunt::sockets
