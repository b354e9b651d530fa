#include "sockets/downgrade.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/untrusted.h"
#include "ring/fence.h"
#include "sockets/bell.h"
#include "sockets/downgrade_internal.h"
#include "sockets/epoll.h"
#include "sockets/establish.h"
#include "sockets/plain.h"
#include "sockets/status.h"
#include "sockets/stream_internal.h"
#include "sys/kernel.h"
#include "wire/message.h"

namespace shunt::sockets {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr std::int64_t kPatienceNs = 1'000'000'000;
constexpr int kBusyPauses = 200;
constexpr int kMostReads = 4096;               // of the bell, in one go
constexpr int kBufferBytes = 8 * 1024 * 1024;  // asked for; the system's limit decides
constexpr std::size_t kMarkBytes = 16;         // mark, 7 zeros, position (little-endian)

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

// The kernel's socket takes over what the program asked of the connection.
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

// From here on the own area says nothing new. With all three locks held.
void publish_plain(int fd, Connection* c) {
  c->read_end().end_wait();
  c->write_end().end_wait();
  // Release: who sees it sees the final head and tail, and finds the mark on the bell.
  c->own->switch_line.plain.store(layout::kPlain, std::memory_order_release);
  c->write_end().set_flags(layout::kFlagPlain);
  c->trouble.store(true, std::memory_order_release);
  if (c->state.write_shut && unsent_rest(c) == 0) sys::raw(SYS_shutdown, fd, SHUT_WR);
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

// Nothing but rings can be on it. False: the other end is gone.
bool read_empty(int fd) {
  std::uint8_t rings[256];
  for (int i = 0; i < kMostReads; ++i) {
    const long n = sys::recv(fd, rings, sizeof rings, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && n != -EAGAIN && n != -EINTR)) return false;
    if (n == -EAGAIN) return true;
  }
  return true;  // a peer that floods it: what it writes is its own affair
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

bool take_exactly(int fd, std::uint64_t count) {
  while (count > 0) {
    std::uint8_t waste[4096];
    const long n = sys::recv(fd, waste, std::min<std::uint64_t>(count, sizeof waste), MSG_DONTWAIT);
    if (n <= 0) return false;
    count -= static_cast<std::uint64_t>(n);
  }
  return true;
}

// Reads the bell up to and including the mark, and nothing of what lies behind it: that may be for another
// holder. (Some of it is in the stash if a drain came upon the mark unawares.)
bool find_position(int fd, Connection* c, std::uint64_t* position) {
  std::uint8_t bytes[256];
  const std::uint8_t* mark = bytes;
  if (stashed(c) >= kMarkBytes) {
    mark = c->stash + c->stash_begin;
    c->stash_begin += kMarkBytes;
  } else if (stashed(c) != 0) {
    // A drain has cut it in two.
    const std::size_t missing = kMarkBytes - stashed(c);
    std::memmove(bytes, c->stash + c->stash_begin, stashed(c));
    if (sys::recv(fd, bytes + stashed(c), missing, MSG_DONTWAIT) != static_cast<long>(missing))
      return false;
    c->stash_begin = c->stash_end;
  } else {
    int reads = 0;
    for (bool found = false; !found;) {
      if (++reads > kMostReads) return false;
      const long n = sys::recv(fd, bytes, sizeof bytes, MSG_DONTWAIT | MSG_PEEK);
      if (n <= 0) return false;
      const std::uint8_t* const end = bytes + n;
      mark = bytes;
      while (mark != end && *mark == wire::kRing) ++mark;
      found = end - mark >= static_cast<long>(kMarkBytes);
      if (!found && mark == bytes) return false;
      const long taken = (mark - bytes) + (found ? static_cast<long>(kMarkBytes) : 0);
      if (!take_exactly(fd, static_cast<std::uint64_t>(taken))) return false;
    }
  }
  if (mark[0] != wire::kPlainMark) return false;
  *position = 0;
  for (int i = 0; i < 8; ++i) *position |= std::uint64_t{mark[8 + i]} << (8 * i);
  return true;
}

// Of what was carried over, the bytes that the program has read from the area already.
bool skip_carried(int fd, Connection* c, std::uint64_t count) {
  const auto from_stash = std::min<std::uint64_t>(count, stashed(c));
  c->stash_begin += static_cast<std::uint32_t>(from_stash);
  return take_exactly(fd, count - from_stash);
}

// The second end's part. The peer's head and tail were final before it sent its mark. False: what it says
// makes no sense. With all three locks held.
bool follow(int fd, const Socket* s) {
  Connection* c = s->connection;
  std::uint64_t carried_from = 0;
  if (c->connected_left && !take_exactly(fd, wire::kMessageBytes)) return false;
  c->connected_left = false;
  if (!find_position(fd, c, &carried_from)) return false;
  ring::Reader reader = c->read_end();
  if (reader.refresh() != ring::Status::kOk) return false;
  const std::uint64_t head = c->reader.head;
  if (head - carried_from > layout::kStreamBytes) return false;
  const std::uint64_t tail = c->reader.tail;
  const bool overlap = tail - carried_from <= head - carried_from;  // modular: from <= tail <= head
  if (!skip_carried(fd, c, overlap ? tail - carried_from : 0)) return false;
  c->reader.head = overlap ? tail : carried_from;
  if (c->write_end().refresh() != ring::Status::kOk) return false;
  c->rest_sent = c->writer.tail;
  prepare_bell(fd, s);
  c->downgrade.store(Downgrade::kRest, std::memory_order_release);
  publish_plain(fd, c);
  return true;
}

// What a peer that is gone has left, into a socket whose other end is then closed. False: it does not fit.
bool fill(int fd, Connection* c) {
  const std::uint64_t left = c->state.dead ? 0 : readable_bytes(c);
  for (std::uint64_t done = 0; done < left;) {
    std::uint8_t bytes[4096];
    ring::Status status = ring::Status::kOk;
    const std::size_t n = c->read_end().copy(done, bytes, sizeof bytes, &status);
    if (n == 0 || status != ring::Status::kOk) break;
    if (sys::send(fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL) != static_cast<long>(n)) return false;
    done += n;
  }
  c->read_end().consume(left);
  return true;
}

// Puts `with` in the place of every descriptor that this process has for `s`.
void replace_descriptors(const Socket* s, int with) {
  const bool nonblocking = s->connection->nonblocking.load(kRelaxed);
  sys::fcntl(with, F_SETFL, nonblocking ? O_NONBLOCK : 0);
  for (int fd = next_descriptor(s, 0, -1); fd >= 0; fd = next_descriptor(s, fd + 1, -1)) {
    const int flags = sys::fcntl(fd, F_GETFD);
    if (flags >= 0) sys::dup3(with, fd, (flags & FD_CLOEXEC) != 0 ? O_CLOEXEC : 0);
  }
}

// The peer is gone, so nobody can send over the bell what it has left in its area: a fresh socket takes the
// bell's place. 0 or -EAGAIN.
long move_to_pair(int fd, Socket* s) {
  Connection* c = s->connection;
  int pair[2];
  if (sys::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return -EAGAIN;
  prepare_bell(pair[0], s);
  prepare_bell(pair[1], s);
  detach_registrations(s);
  bool moved = false;
  {
    const Still still(c);
    absorb_events(c);
    if (still.complete() && still_under(fd, s, c) && fill(pair[1], c)) {
      // Closing an end with unread bytes resets the other: ECONNRESET, as the program would have got.
      if (c->state.dead && c->state.pending_error != 0) sys::send(pair[0], "", 1, MSG_DONTWAIT);
      if (c->state.write_shut) sys::raw(SYS_shutdown, pair[0], SHUT_WR);
      read_empty(fd);  // other holders of the old bell read nothing but its end
      replace_descriptors(s, pair[0]);
      note_bell(fd, s);
      c->rest_sent = c->writer.head;
      c->downgrade.store(Downgrade::kPlain, std::memory_order_release);
      c->trouble.store(true, std::memory_order_release);
      moved = true;
    }
  }
  sys::close(pair[1]);
  sys::close(pair[0]);
  if (!moved) {
    rewatch_registrations(s);
    return -EAGAIN;
  }
  settle(s);
  return 0;
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

// Sends the rest. A rest that the program has not read yet cannot be put back: -EAGAIN.
long finish_rest(int fd, Socket* s) {
  Connection* c = s->connection;
  for (;;) {
    if (settle(s)) return 0;
    {
      const Still still(c);
      if (!still.complete() || unread_rest(c) != 0) return -EAGAIN;
      if (!still_under(fd, s, c)) return 0;
      if (unsent_rest(c) == 0) return -EAGAIN;  // an error is still to be reported to this program
      const std::uint64_t before = c->rest_sent;
      if (send_rest(fd, c) < 0 || c->rest_sent != before) continue;
    }
    pollfd p{fd, POLLOUT, 0};
    const timespec patience = sys::timespec_of(kPatienceNs);
    if (sys::ppoll(&p, 1, &patience, nullptr) == 0) return -EAGAIN;
  }
}

}  // namespace

long downgrade(int fd, Socket* s, std::int64_t deadline) {
  const SignalsBlocked blocked;
  Connection* c = s->connection;
  if (c->relayed) return -EAGAIN;
  if (!has_area(fd, s, deadline != 0 ? deadline : sys::monotonic_ns() + kPatienceNs))
    return -EAGAIN;
  int busy = 0;
  for (int tries = 0; !downgraded(c); ++tries) {
    if (tries == 4 || !follow_downgrade(fd, s)) return -EAGAIN;
    Begun begun = Begun::kPeerFirst;
    {
      const Still still(c);
      if (!still.complete()) return -EAGAIN;
      if (!still_under(fd, s, c)) return 0;
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
      if (++busy > kBusyPauses) return -EAGAIN;  // the peer does not read: kept back
      --tries;
      constexpr timespec kPause{0, 100'000};
      sys::raw(SYS_nanosleep, sys::arg(&kPause), 0);
      continue;
    }
    if (begun == Begun::kNoWay) return -EAGAIN;
    if (begun == Begun::kPeerGone) return move_to_pair(fd, s);
  }
  return finish_rest(fd, s);
}

namespace {

// The mark wakes everybody who sleeps on the bell, as long as it is there: they look for room or for plain
// bytes afterwards. Nobody goes to sleep any more who has seen the peer's flag. A sleeper that was killed stays
// counted and is not waited for any longer: false.
bool let_sleepers_wake(Connection* c) {
  constexpr timespec kPause{0, 100'000};
  for (int i = 0; i < 1000; ++i) {
    if (c->bell_state.sleepers.load(std::memory_order_seq_cst) == 0) return true;
    if (i < 100) {
      sys::sched_yield();
    } else {
      sys::raw(SYS_nanosleep, sys::arg(&kPause), 0);
    }
  }
  return false;
}

}  // namespace

bool follow_downgrade(int fd, Socket* s) {
  Connection* c = s->connection;
  if (!follow_due(c)) return true;
  const SignalsBlocked blocked;
  for (bool done = false; !done;) {
    const bool patient = let_sleepers_wake(c);
    const Still still(c);
    if (!still.complete()) return false;
    // With the bell's lock nobody is on his way to sleep.
    if (patient && c->bell_state.sleepers.load(std::memory_order_seq_cst) != 0) continue;
    if (fd < 0 || !still_under(fd, s, c)) fd = next_descriptor(s, 0, -1);
    if (fd < 0 || !still_under(fd, s, c)) return false;
    c->follow_due.store(false, std::memory_order_release);
    if (!downgraded(c) && c->peer.load(kRelaxed) != nullptr && !c->poisoned.load(kRelaxed)) {
      if (!follow(fd, s)) reset_untrusted(c);
    }
    if (downgraded(c)) send_rest(fd, c);
    done = true;
  }
  if (downgraded(c) && !settle(s)) rewatch_registrations(s);
  return true;
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
  rewatch_registrations(s);
  return true;
}

}  // namespace shunt::sockets
