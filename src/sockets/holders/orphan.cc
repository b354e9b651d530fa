#include "sockets/holders/orphan.h"

#include <algorithm>
#include <cerrno>

#include "sockets/bell/checked_rings.h"
#include "sockets/bell/look.h"
#include "sockets/connection/carriage.h"
#include "sockets/downgrade/plain_bell.h"
#include "sockets/process/missed.h"
#include "sockets/wait/epoll_registry.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

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

}  // namespace

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
      apply(c, conn::CarriageEvent::kRehomed);
      moved = true;
    }
  }
  sys::close(pair[1]);
  sys::close(pair[0]);
  if (!moved) {
    rewatch(s);
    return -EAGAIN;
  }
  settle(s);
  return 0;
}

}  // namespace shunt::sockets
