#include "sockets/downgrade/plain_bell.h"

#include <cassert>
#include <cerrno>

#include "sockets/connection/carriage.h"
#include "sockets/downgrade/label.h"
#include "sockets/process/missed.h"
#include "sockets/process/status.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr int kBufferBytes = 8 * 1024 * 1024;  // asked for; the system's limit decides

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
  assert(c->tx.held_by_me() && c->rx.held_by_me() && c->bell.held_by_me());
  c->read_end().end_wait();
  c->write_end().end_wait();
  // Release: who sees it sees the final head and tail, and finds the mark on the bell.
  c->own->switch_line.plain.store(layout::kPlain, std::memory_order_release);
  c->write_end().set_flags(layout::kFlagPlain);
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

long send_rest(int fd, Connection* c) {
  assert(c->tx.held_by_me());
  while (unsent_rest(c) > 0) {
    const std::uint8_t* data = nullptr;
    const std::size_t n = c->write_end().written(c->rest_sent, &data);
    const long sent = n == 0 ? -EPIPE : sys::send(fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent == -EAGAIN || sent == -EINTR) return 0;
    if (sent < 0) {
      // Unread bytes that nobody will read: TCP would have been told so by a reset.
      c->rest_sent = c->writer.head;
      c->state.pending_error = ECONNRESET;
      return sent;
    }
    c->rest_sent += static_cast<std::uint64_t>(sent);
  }
  if (c->state.write_shut) sys::raw(SYS_shutdown, fd, SHUT_WR);
  return 0;
}

bool settle(Socket* s) {
  Connection* c = s->connection;
  const SignalsBlocked blocked;
  {
    const Still still(c);
    if (!still.complete()) return false;
    if (unread_rest(c) == 0 && unsent_rest(c) == 0 && c->state.pending_error == 0) {
      apply(c, conn::CarriageEvent::kRestMoved);
    }
    if (carriage(c) != conn::Carriage::kPlain) return false;
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

}  // namespace shunt::sockets
