#include "sockets/downgrade/moving_rest.h"

#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>

#include "sockets/bell/sleep.h"
#include "sockets/connection/buffers.h"
#include "sockets/downgrade/entry.h"
#include "sockets/downgrade/plain_bell.h"
#include "sockets/process/result.h"
#include "sockets/process/status.h"
#include "sockets/thread/cancel.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

// From the area, then from the stash, into `out`. With rx held.
std::size_t take_rest(Connection* c, std::uint64_t skip, std::uint8_t* out, std::size_t size,
                      bool keep) {
  assert(c->rx.held_by_me());
  ring::Status status = ring::Status::kOk;
  if (skip < c->read_end().available()) {
    const std::size_t n = c->read_end().copy(skip, out, size, &status);
    if (n > 0 && !keep) status = c->read_end().consume(n);
    if (status == ring::Status::kOk) return n;
    c->reader.head = c->reader.tail;  // nonsense in the peer's area: nothing more is taken from it
    return 0;
  }
  skip -= c->read_end().available();
  if (skip >= stashed(c)) return 0;
  const std::size_t n = std::min<std::size_t>(size, stashed(c) - skip);
  if (out != nullptr) std::memcpy(out, c->bell_state.stash + c->bell_state.stash_begin + skip, n);
  if (!keep) c->bell_state.stash_begin += static_cast<std::uint32_t>(n);
  return n;
}

long gather_rest(Connection* c, const iovec* parts, std::size_t count, int flags) {
  const bool keep = (flags & MSG_PEEK) != 0;
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t done = 0; done < parts[i].iov_len;) {
      auto* out = static_cast<std::uint8_t*>(parts[i].iov_base) + done;
      const std::size_t n = take_rest(c, keep ? total : 0, (flags & MSG_TRUNC) != 0 ? nullptr : out,
                                      parts[i].iov_len - done, keep);
      if (n == 0) return static_cast<long>(total);
      done += n;
      total += n;
    }
  }
  return static_cast<long>(total);
}

std::int64_t deadline_of(std::int64_t timeout_ns) {
  return deadline_from(timeout_ns, sys::monotonic_ns());
}

long transmit(int fd, const iovec* parts, std::size_t count, std::size_t skip, int flags) {
  msghdr m{};
  iovec rest[16];
  for (std::size_t i = 0; i < count && m.msg_iovlen < 16; ++i) {
    const std::size_t jump = std::min(skip, parts[i].iov_len);
    skip -= jump;
    if (parts[i].iov_len == jump) continue;
    rest[m.msg_iovlen++] = {static_cast<std::uint8_t*>(parts[i].iov_base) + jump,
                            parts[i].iov_len - jump};
  }
  m.msg_iov = rest;
  return m.msg_iovlen == 0 ? 0 : sys::sendmsg(fd, &m, flags | MSG_DONTWAIT | MSG_NOSIGNAL);
}

// Bytes that the kernel has of the bell's; `request`: SIOCOUTQ or FIONREAD.
std::uint64_t kernel_bytes(const Socket* s, unsigned long request) {
  int bytes = 0;
  sys::ioctl(next_descriptor(s, 0, -1), request, &bytes);
  return static_cast<std::uint64_t>(std::max(bytes, 0));
}

}  // namespace

Outcome receive_with_rest(int fd, Socket* s, const iovec* parts, std::size_t count, int flags) {
  Connection* c = s->connection;
  const bool dont_wait = (flags & MSG_DONTWAIT) != 0 || c->nonblocking.load(kRelaxed);
  const std::int64_t deadline = deadline_of(c->read_timeout_ns);
  for (;;) {
    if (settle(s)) return kNotOurs;
    {
      const Entry in(fd, s, Side::kRead);
      if (in.way() == Way::kInside) return dont_wait ? -EAGAIN : -EINTR;
      if (in.way() != Way::kRest) return kNotOurs;
      const long n = gather_rest(c, parts, count, flags);
      if (n > 0 && (flags & MSG_PEEK) == 0) {
        count_received(s, static_cast<std::uint64_t>(n));
      }
      if (n > 0) return n;
    }
    {
      const Entry in(fd, s, Side::kWrite);
      if (in.way() == Way::kRest) send_rest(fd, c);
    }
    if (settle(s)) return kNotOurs;
    msghdr m{};
    m.msg_iov = const_cast<iovec*>(parts);
    m.msg_iovlen = count;
    const long n = sys::recvmsg(fd, &m, (flags & MSG_PEEK) | MSG_DONTWAIT);
    if (n == 0 && c->state.pending_error != 0) {
      Hold hold(c->state_lock);
      return -conn::take_error(c->state);
    }
    if (n != -EAGAIN || dont_wait) return n;
    // The rest leaves while we wait: the answer may depend on it.
    const long r = poll_bell(fd, POLLIN | POLLOUT, deadline);
    if (r < 0) return r;
  }
}

Outcome send_with_rest(int fd, Socket* s, const iovec* parts, std::size_t count, std::size_t done,
                       int flags) {
  Connection* c = s->connection;
  const bool dont_wait = (flags & MSG_DONTWAIT) != 0 || c->nonblocking.load(kRelaxed);
  const std::int64_t deadline = deadline_of(c->write_timeout_ns);
  const std::size_t size = total_size(parts, count);
  for (;;) {
    if (done == 0 && settle(s)) return kNotOurs;
    long result = 0;
    {
      const Entry in(fd, s, Side::kWrite);
      if (in.way() == Way::kInside) return -EAGAIN;
      if (in.way() == Way::kElsewhere) return done > 0 ? static_cast<long>(done) : -EBADF;
      // Lost just now: the rings say so, or the next call.
      if (in.way() != Way::kRest) return done > 0 ? Outcome(static_cast<long>(done)) : kNotOurs;
      result = c->state.write_shut ? -EPIPE : send_rest(fd, c);
      if (result == 0 && unsent_rest(c) == 0) {
        result = transmit(fd, parts, count, done, flags);
        if (result > 0) done += static_cast<std::size_t>(result);
      } else if (result == 0) {
        result = -EAGAIN;
      }
    }
    if (done == size) return static_cast<long>(done);
    if (result < 0 && result != -EAGAIN) return done > 0 ? static_cast<long>(done) : result;
    if (dont_wait) return done > 0 ? static_cast<long>(done) : -EAGAIN;
    const long r = poll_bell(fd, POLLOUT, deadline);
    if (r < 0) return done > 0 ? static_cast<long>(done) : r;
  }
}

Outcome shutdown_with_rest(int fd, Socket* s, int how) {
  Connection* c = s->connection;
  if (settle(s)) return kNotOurs;
  const Entry in(fd, s, Side::kWrite);
  if (in.way() != Way::kRest && in.way() != Way::kInside) return kNotOurs;
  {
    Hold hold(c->state_lock);
    if (how != SHUT_RD) c->state.write_shut = true;
    if (how != SHUT_WR) c->state.read_shut = true;
  }
  if (how != SHUT_WR) sys::raw(SYS_shutdown, fd, SHUT_RD);
  if (how != SHUT_RD) send_rest(fd, c);  // shuts the bell down behind the last byte
  return 0;
}

std::uint32_t events_with_rest(int fd, Socket* s, std::uint32_t wanted) {
  Connection* c = s->connection;
  if (fd < 0 || !still_under(fd, s, c)) fd = next_descriptor(s, 0, -1);
  bool readable = false;
  bool sent = false;
  {
    const Entry in(fd, s, Side::kWrite);
    if (in.way() == Way::kRest) send_rest(fd, c);
    sent = unsent_rest(c) == 0;
  }
  {
    Hold rx(c->rx);
    readable = unread_rest(c) > 0;
  }
  pollfd p{fd, static_cast<short>(POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM | POLLRDHUP), 0};
  const timespec now{0, 0};
  sys::ppoll(&p, 1, &now, nullptr);
  auto events = static_cast<std::uint32_t>(static_cast<std::uint16_t>(p.revents));
  if (readable) events |= POLLIN | POLLRDNORM;
  if (!sent) events &= ~static_cast<std::uint32_t>(POLLOUT | POLLWRNORM);
  return events & (wanted | POLLERR | POLLHUP);
}

std::uint32_t kernel_events_with_rest(Socket* s, std::uint32_t wanted) {
  constexpr std::uint32_t kAny = POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM | POLLRDHUP | POLLPRI;
  Connection* c = s->connection;
  Hold tx(c->tx);
  return (wanted & kAny) | (unsent_rest(c) > 0 ? static_cast<std::uint32_t>(POLLOUT) : 0);
}

std::uint64_t unsent_with_rest(Socket* s) {
  Hold tx(s->connection->tx);
  return unsent_rest(s->connection) + kernel_bytes(s, SIOCOUTQ);
}

std::uint64_t available_with_rest(Socket* s) {
  Hold rx(s->connection->rx);
  return unread_rest(s->connection) + kernel_bytes(s, FIONREAD);
}

void send_rest_before_close(int fd, Socket* s, std::int64_t deadline) {
  const NoCancel uncancelled;
  Connection* c = s->connection;
  for (;;) {
    std::uint64_t before = 0;
    {
      const Entry in(fd, s, Side::kWrite);
      if (in.way() != Way::kRest) return;
      before = c->rest_sent;
      if (send_rest(fd, c) < 0 || unsent_rest(c) == 0) return;
      if (c->rest_sent != before) continue;
    }
    if (poll_bell(fd, POLLOUT, deadline) == -EAGAIN) return;
  }
}

}  // namespace shunt::sockets
