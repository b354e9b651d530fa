// Sleeping on the bell, and the calls of stream.h that are neither send nor receive.
#include "sockets/stream/stream.h"

#include <poll.h>

#include <cerrno>

#include "base/untrusted.h"
#include "sockets/bell/bell.h"
#include "sockets/connection/trim.h"
#include "sockets/downgrade/downgrade.h"
#include "sockets/process/status.h"
#include "sockets/stream/stream_internal.h"
#include "sockets/thread/cancel.h"
#include "sockets/wait/epoll.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {
constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr std::uint32_t kYields = 64;
constexpr std::uint32_t kForceAfter = 256;
constexpr timespec kShortPause{0, 1'000'000};
}  // namespace

void VainWakes::another() {
  // A ring stays on the bell until every sleeper has had the chance to see it. Normally the other
  // sleeper is awake already and needs the CPU; only a killed one leaves the ring there for ever.
  ++count;
  if (count < 4) return;
  if (count < kYields) {
    sys::sched_yield();
  } else if (count < kForceAfter) {
    sys::raw(SYS_nanosleep, sys::arg(&kShortPause), 0);
  }
  force = count >= kForceAfter;
  if (force) count = kYields;
}

void count_sent(Socket* s, std::uint64_t bytes) {
  auto& total = s->connection->bytes_sent;
  total.store(total.load(kRelaxed) + bytes, kRelaxed);
  add_sent(s->status, bytes);
}

void count_received(Socket* s, std::uint64_t bytes) {
  auto& total = s->connection->bytes_received;
  total.store(total.load(kRelaxed) + bytes, kRelaxed);
  add_received(s->status, bytes);
}

long poll_bell(int fd, short events, std::int64_t deadline_ns) {
  timespec left{};
  if (deadline_ns != 0) {
    const std::int64_t ns = deadline_ns - sys::monotonic_ns();
    if (ns <= 0) return -EAGAIN;
    left = sys::timespec_of(ns);
  }
  pollfd p{fd, events, 0};
  int r = 0;
  {
    const CancelPoint point;
    r = sys::ppoll(&p, 1, deadline_ns != 0 ? &left : nullptr, nullptr);
  }
  return r < 0 ? r : r == 0 ? -EAGAIN : 0;
}

long sleep_on_bell(int fd, std::int64_t deadline_ns) {
  trim_idle();
  if (deadline_ns == 0) {
    // The kernel's own receive: EINTR or a restart, as the program's SA_RESTART says. A socket that
    // another thread made non-blocking meanwhile answers EAGAIN: wait with poll then.
    std::uint8_t byte;
    long r = 0;
    {
      const CancelPoint point;
      r = sys::recv(fd, &byte, 1, MSG_PEEK);
    }
    if (r == -EINTR) return -EINTR;
    if (r != -EAGAIN) return 0;
  }
  return poll_bell(fd, POLLIN, deadline_ns);
}

namespace {

// Whether a thread that sleeps on the bell has something new to see. One that waits for data has not
// when only the writing half is shut down: waking it would spoil the bell for nothing.
bool concerns_sleepers(const Connection* c, int how) {
  if (c->bell_state.sleepers.load(std::memory_order_seq_cst) == 0) return false;
  // A driver can send no CONNECTED through a bell that is shut; who sleeps for room is woken by that.
  if (c->relayed && c->peer.load(kRelaxed) == nullptr && how == SHUT_WR) return false;
  const bool waits_for_space = (c->writer.wait_epoch & 1) != 0;
  return how != SHUT_WR || waits_for_space || c->state.read_shut || c->state.peer_finished;
}

long shutdown_locked(int fd, Socket* s, int how) {
  Connection* c = s->connection;
  Hold tx(c->tx);
  if (tx.owns() && !still_under(fd, s, c)) return kNotOurs;
  absorb_events(c);
  if (follow_due(c) || downgraded(c)) return kNotOurs;
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
    c->bell_shut = true;
  }
  return 0;
}

}  // namespace

long shutdown_stream(int fd, Socket* s, int how) {
  if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR) return -EINVAL;
  if (!follow_downgrade(fd, s)) return -EAGAIN;
  const long r =
      downgraded(s->connection) ? shutdown_with_rest(fd, s, how) : shutdown_locked(fd, s, how);
  if (leaves_rings(s->connection)) follow_downgrade(fd, s);
  rouse_missed();
  return r;
}

std::uint32_t stream_events(Socket* s, std::uint32_t wanted) {
  Connection* c = s->connection;
  bool data = false;
  bool room = false;
  follow_downgrade(-1, s);
  if (!downgraded(c)) {
    Hold rx(c->rx);
    absorb_events(c);
    data = readable_bytes(c) >= c->read_low_water;
  }
  if (follow_due(c)) follow_downgrade(-1, s);
  if (downgraded(c)) return events_with_rest(-1, s, wanted);
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
  if (downgraded(s->connection)) return available_with_rest(s);
  Hold rx(s->connection->rx);
  return readable_bytes(s->connection);
}

std::uint64_t bytes_unsent(Socket* s) {
  Connection* c = s->connection;
  follow_downgrade(-1, s);
  if (downgraded(c)) return unsent_with_rest(s);
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

// The kernel's end of file on the bell rings.
void announce_close(Socket* s) {
  Connection* c = s->connection;
  if (c->holders.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  if (downgraded(c)) return;  // the kernel says it
  std::uint16_t flags = layout::kFlagFin | layout::kFlagClosed;
  if (c->linger_seconds == 0) flags |= layout::kFlagReset;
  c->write_end().set_flags(flags);
}

}  // namespace shunt::sockets
