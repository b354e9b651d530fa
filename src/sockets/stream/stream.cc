#include "sockets/stream/stream.h"

#include <poll.h>

#include <cerrno>

#include "base/untrusted.h"
#include "sockets/bell/bell.h"
#include "sockets/bell/checked_rings.h"
#include "sockets/bell/look.h"
#include "sockets/connection/carriage.h"
#include "sockets/downgrade/entry.h"
#include "sockets/downgrade/follow.h"
#include "sockets/downgrade/moving_rest.h"
#include "sockets/process/missed.h"
#include "sockets/process/result.h"
#include "sockets/process/status.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {
constexpr auto kRelaxed = std::memory_order_relaxed;

// Whether a thread that sleeps on the bell has something new to see. One that waits for data has not
// when only the writing half is shut down: waking it would spoil the bell for nothing.
bool concerns_sleepers(const Connection* c, int how) {
  if (c->bell_state.sleepers.load(std::memory_order_seq_cst) == 0) return false;
  // A driver can send no CONNECTED through a bell that is shut; who sleeps for room is woken by that.
  if (c->relayed && c->peer.load(kRelaxed) == nullptr && how == SHUT_WR) return false;
  const bool waits_for_space = (c->writer.wait_epoch & 1) != 0;
  return how != SHUT_WR || waits_for_space || c->state.read_shut || c->state.peer_finished;
}

// With tx held, or by a handler that interrupted its holder. 0 or -errno; kNotOurs: look again.
Outcome shut_rings(int fd, Socket* s, int how) {
  Connection* c = s->connection;
  assert(c->tx.held_by_me());
  absorb_events(c);
  if (leaves_rings(c)) return kNotOurs;
  {
    Hold hold(c->state_lock);
    const int error = conn::on_shutdown(c->state, how);
    if (error != 0) return -error;
    c->trouble.store(true, std::memory_order_release);
  }
  if (how != SHUT_RD) {
    ring::Writer writer = c->write_end();
    writer.set_flags(layout::kFlagFin);
    if (c->peer.load(kRelaxed) == nullptr) look_at_bell(fd, s);
    ring::Writer now = c->write_end();
    if (now.must_ring()) ring(fd, c);
  }
  if (epolls_rely_on(c)) note_missed(s);  // the kernel's side of the connection shows nothing
  if (concerns_sleepers(c, how)) {
    // Threads of ours that sleep must see it: shutting down the bell's receiving half wakes them. The
    // peer's rings fail from then on, so later waits fall back to short pauses.
    sys::raw(SYS_shutdown, fd, SHUT_RD);
    c->bell_state.shut = true;
  }
  return 0;
}

}  // namespace

Outcome shutdown_stream(int fd, Socket* s, int how) {
  if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR) return -EINVAL;
  Outcome r = kNotOurs;
  {
    Entry in(fd, s, Side::kWrite);
    switch (in.way()) {
      case Way::kRings:
      case Way::kInside:
        r = shut_rings(fd, s, how);
        break;
      case Way::kRest:
        in.release();
        r = shutdown_with_rest(fd, s, how);
        break;
      case Way::kElsewhere:
        break;
      case Way::kLater:
        return -EAGAIN;
    }
  }
  if (leaves_rings(s->connection)) follow_downgrade(fd, s);
  rouse_missed();
  return r;
}

std::uint32_t stream_events(Socket* s, std::uint32_t wanted) {
  Connection* c = s->connection;
  bool data = false;
  bool room = false;
  follow_downgrade(-1, s);
  if (!off_rings(c)) {
    Hold rx(c->rx);
    absorb_events(c);
    data = readable_bytes(c) >= c->read_low_water;
  }
  if (follow_due(c)) follow_downgrade(-1, s);
  if (off_rings(c)) return events_with_rest(-1, s, wanted);
  if ((wanted & (POLLOUT | POLLWRNORM)) != 0) {
    Hold tx(c->tx);
    c->write_end().take_echo();
    room = writer_has_room(c);
  }
  Hold hold(c->state_lock);
  return conn::poll_mask(c->state, data, room);
}

std::uint64_t bytes_available(Socket* s) {
  if (s->connection->peer.load(std::memory_order_acquire) == nullptr) look_at_bell(-1, s);
  follow_downgrade(-1, s);
  if (off_rings(s->connection)) return available_with_rest(s);
  Hold rx(s->connection->rx);
  return readable_bytes(s->connection);
}

std::uint64_t bytes_unsent(Socket* s) {
  Connection* c = s->connection;
  follow_downgrade(-1, s);
  if (off_rings(c)) return unsent_with_rest(s);
  Hold tx(c->tx);
  ring::Writer writer = c->write_end();
  if (writer.refresh() != ring::Status::kOk) reset_untrusted(c);
  return writer.in_flight();
}

int take_socket_error(Socket* s) {
  absorb_events(s->connection);
  Hold hold(s->connection->state_lock);
  return conn::take_error(s->connection->state);
}

}  // namespace shunt::sockets
