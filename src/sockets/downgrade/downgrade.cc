// The first end of a downgrade, and what both ends do.
#include "sockets/downgrade/downgrade.h"

#include <algorithm>
#include <cerrno>

#include "base/untrusted.h"
#include "ring/fence.h"
#include "sockets/bell/bell.h"
#include "sockets/downgrade/downgrade_internal.h"
#include "sockets/downgrade/label.h"
#include "sockets/process/missed.h"
#include "sockets/process/status.h"
#include "sys/kernel.h"
#include "wire/message.h"

namespace shunt::sockets {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr std::int64_t kPatienceNs = 1'000'000'000;
constexpr int kBusyPauses = 200;
constexpr int kBufferBytes = 8 * 1024 * 1024;  // asked for; the system's limit decides

// Waits for something that the peer does between two instructions of a downgrade. False: it did not.
template <typename Done>
bool await(int fd, Done done) {
  for (const std::int64_t end = sys::monotonic_ns() + kPatienceNs;;) {
    if (done()) return true;
    if (hung_up(fd)) return done();
    if (sys::monotonic_ns() > end) return false;
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

enum class Begun { kYes, kPeerFirst, kPeerGone, kBusy, kNoWay };

// The first end's part. With all three locks held.
Begun begin(int fd, const Socket* s) {
  Connection* c = s->connection;
  layout::SwitchLine& own = c->own->switch_line;
  own.plain.store(layout::kSwitching, std::memory_order_seq_cst);
  ring::full_fence();  // announce before looking at the peer's line; pairs with ring() and begin()
  const auto no_way = [&own](Begun why) {
    own.plain.store(layout::kCarrying, std::memory_order_release);
    return why;
  };
  // Whoever writes from now on finds that we sleep, comes to ring, and sees that we switch.
  c->read_end().begin_wait();
  if (peer_plain(c) == layout::kSwitching) {
    if (c->connecting_side) own.plain.store(layout::kCarrying, std::memory_order_release);
    await(fd, [c] { return peer_plain(c) != layout::kSwitching; });
    if (c->connecting_side)
      return peer_plain(c) == layout::kPlain ? Begun::kPeerFirst : Begun::kNoWay;
  }
  if (peer_plain(c) == layout::kPlain) return no_way(Begun::kPeerFirst);
  if (c->write_end().refresh() != ring::Status::kOk) return no_way(Begun::kPeerGone);
  if (is_waited_for_room(c)) return no_way(Begun::kNoWay);
  const auto quiet = [c] {
    return Untrusted(c->peer.load(kRelaxed)->switch_line.ringing).copy_acquire() == 0;
  };
  if (!await(fd, quiet)) return no_way(hung_up(fd) ? Begun::kPeerGone : Begun::kNoWay);
  if (!read_empty(fd)) return no_way(Begun::kPeerGone);
  prepare_bell(fd, s);
  if (!send_mark(fd, c)) return no_way(hung_up(fd) ? Begun::kPeerGone : Begun::kNoWay);
  c->rest_sent = c->writer.head;
  c->reader.head = c->reader.tail;  // the peer sends over the bell what we have not read
  publish_plain(fd, c);
  c->downgrade.store(Downgrade::kPlain, std::memory_order_release);
  return Begun::kYes;
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
    pollfd p{fd, POLLIN, 0};
    const timespec timeout = sys::timespec_of(left);
    sys::ppoll(&p, 1, &timeout, nullptr);
  }
}

// Sends the rest. A rest that the program has not read yet cannot be put back: kNotNow.
Downgraded finish_rest(int fd, Socket* s) {
  Connection* c = s->connection;
  for (;;) {
    if (settle(s)) return Downgraded::kYes;
    {
      const Still still(c);
      if (!still.complete() || unread_rest(c) != 0) return Downgraded::kNotNow;
      if (!still_under(fd, s, c)) return Downgraded::kYes;
      if (unsent_rest(c) == 0)
        return Downgraded::kNotNow;  // an error is still to be reported to this program
      const std::uint64_t before = c->rest_sent;
      if (send_rest(fd, c) < 0 || c->rest_sent != before) continue;
    }
    pollfd p{fd, POLLOUT, 0};
    const timespec patience = sys::timespec_of(kPatienceNs);
    if (sys::ppoll(&p, 1, &patience, nullptr) == 0) return Downgraded::kNotNow;
  }
}

}  // namespace

void prepare_bell(int fd, const Socket* s) {
  const Connection* c = s->connection;
  if (sys::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &kBufferBytes, sizeof kBufferBytes) != 0) {
    sys::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &kBufferBytes, sizeof kBufferBytes);
  }
  const auto set_timeout = [fd](int name, std::int64_t ns) {
    if (ns <= 0) return;
    // Less than there is in a timeval stands for Linux's "do not wait at all" (options.cc).
    const timeval tv =
        ns < 1000 ? timeval{-1, 0} : timeval{ns / 1'000'000'000, ns % 1'000'000'000 / 1000};
    sys::setsockopt(fd, SOL_SOCKET, name, &tv, sizeof tv);
  };
  set_timeout(SO_RCVTIMEO, c->read_timeout_ns);
  set_timeout(SO_SNDTIMEO, c->write_timeout_ns);
  const auto low_water = static_cast<std::int32_t>(c->read_low_water);
  if (low_water > 1) sys::setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &low_water, sizeof low_water);
  write_label(fd, {c->local, c->remote, s->family});
}

void publish_plain(int fd, Connection* c) {
  c->read_end().end_wait();
  c->write_end().end_wait();
  // Release: who sees it sees the final head and tail, and finds the mark on the bell.
  c->own->switch_line.plain.store(layout::kPlain, std::memory_order_release);
  c->write_end().set_flags(layout::kFlagPlain);
  c->trouble.store(true, std::memory_order_release);
  if (c->state.write_shut && unsent_rest(c) == 0) sys::raw(SYS_shutdown, fd, SHUT_WR);
}

bool read_empty(int fd) {
  std::uint8_t rings[256];
  for (int i = 0; i < kMostReads; ++i) {
    const long n = sys::recv(fd, rings, sizeof rings, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && n != -EAGAIN && n != -EINTR)) return false;
    if (n == -EAGAIN) return true;
  }
  return true;  // a peer that floods it: what it writes is its own affair
}

bool settle(Socket* s) {
  Connection* c = s->connection;
  const SignalsBlocked blocked;
  {
    const Still still(c);
    if (!still.complete()) return false;
    if (c->downgrade.load(kRelaxed) == Downgrade::kRest && unread_rest(c) == 0 &&
        unsent_rest(c) == 0 && c->state.pending_error == 0) {
      c->downgrade.store(Downgrade::kPlain, std::memory_order_release);
    }
    if (c->downgrade.load(kRelaxed) != Downgrade::kPlain) return false;
  }
  {
    Hold hold(s->lock);
    Kind connection = Kind::kConnection;
    // Release: who sees the kind sees that nothing is left in the areas.
    if (!s->kind.compare_exchange_strong(connection, Kind::kPlain, std::memory_order_acq_rel)) {
      return connection == Kind::kPlain;
    }
  }
  show_downgraded(s);
  rewatch(s);
  return true;
}

Downgraded downgrade(int fd, Socket* s, std::int64_t deadline) {
  const SignalsBlocked blocked;
  Connection* c = s->connection;
  if (c->relayed) return Downgraded::kNotNow;
  if (!has_area(fd, s, deadline != 0 ? deadline : sys::monotonic_ns() + kPatienceNs)) {
    return Downgraded::kNotNow;
  }
  int busy = 0;
  for (int tries = 0; !downgraded(c); ++tries) {
    if (tries == 4 || !follow_downgrade(fd, s)) return Downgraded::kNotNow;
    Begun begun = Begun::kPeerFirst;
    {
      const Still still(c);
      if (!still.complete()) return Downgraded::kNotNow;
      if (!still_under(fd, s, c)) return Downgraded::kYes;
      if (downgraded(c)) break;
      absorb_events(c);
      if (follow_due(c)) continue;
      const bool gone = c->peer.load(kRelaxed) == nullptr || c->gone_noticed.load(kRelaxed) ||
                        c->state.dead || c->poisoned.load(kRelaxed);
      begun = c->bell_shut         ? Begun::kNoWay
              : gone               ? Begun::kPeerGone
              : sleeps_for_room(c) ? Begun::kBusy
                                   : begin(fd, s);
      if (begun == Begun::kPeerFirst) {
        c->follow_due.store(true, std::memory_order_release);
        c->trouble.store(true, std::memory_order_release);
      }
    }
    if (begun == Begun::kBusy) {
      if (++busy > kBusyPauses) return Downgraded::kNotNow;  // the peer does not read: kept back
      --tries;
      constexpr timespec kPause{0, 100'000};
      sys::raw(SYS_nanosleep, sys::arg(&kPause), 0);
      continue;
    }
    if (begun == Begun::kNoWay) return Downgraded::kNotNow;
    if (begun == Begun::kPeerGone) return Downgraded::kPeerGone;
  }
  return finish_rest(fd, s);
}

}  // namespace shunt::sockets
