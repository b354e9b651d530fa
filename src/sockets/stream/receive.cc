#include "sockets/stream/receive.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>

#include "base/untrusted.h"
#include "sockets/bell/bell.h"
#include "sockets/bell/checked_rings.h"
#include "sockets/bell/look.h"
#include "sockets/bell/sleep.h"
#include "sockets/connection/carriage.h"
#include "sockets/downgrade/follow.h"
#include "sockets/downgrade/rest.h"
#include "sockets/process/missed.h"
#include "sockets/process/result.h"
#include "sockets/process/status.h"
#include "sockets/thread/cancel.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

// A walk over the caller's buffers.
class Scatter {
 public:
  Scatter(const iovec* parts, std::size_t count) : part_(parts), left_(count) { skip_empty(); }
  std::uint8_t* at() const { return static_cast<std::uint8_t*>(part_->iov_base) + used_; }
  std::size_t room() const { return left_ == 0 ? 0 : part_->iov_len - used_; }
  void advance(std::size_t n) {
    used_ += n;
    skip_empty();
  }

 private:
  void skip_empty() {
    while (left_ > 0 && used_ == part_->iov_len) {
      ++part_;
      --left_;
      used_ = 0;
    }
  }
  const iovec* part_;
  std::size_t left_;
  std::size_t used_ = 0;
};

// Moves what is there into `to`. With rx held.
std::size_t take(int fd, Connection* c, Scatter& to, int flags, std::size_t peeked) {
  ring::Reader reader = c->read_end();
  std::size_t total = 0;
  ring::Status status = ring::Status::kOk;
  while (to.room() > 0) {
    const std::size_t skip = (flags & MSG_PEEK) != 0 ? peeked + total : 0;
    if (reader.available() <= skip) refresh_reader(c);
    if (reader.available() <= skip || lost(c)) break;
    std::uint8_t* out = (flags & MSG_TRUNC) != 0 ? nullptr : to.at();
    const std::size_t n = reader.copy(skip, out, to.room(), &status);
    if (status == ring::Status::kOk && n > 0 && (flags & MSG_PEEK) == 0) {
      status = reader.consume(n);
    }
    if (status != ring::Status::kOk) {
      reset_untrusted(c);
      break;
    }
    if (n == 0) break;
    to.advance(n);
    total += n;
    if ((flags & MSG_PEEK) == 0 && reader.must_ring_for_space()) ring(fd, c);
  }
  return total;
}

// With rx held: the answer when no further byte could be moved, although the peer's head was at
// `seen`. 1: look again. `keep_error`: bytes are to be reported now, an error by the next call.
long nothing_there(Connection* c, std::uint64_t seen, bool keep_error) {
  absorb_events(c);
  if (follow_due(c)) return 1;
  conn::ReadEnd known{};
  {
    Hold hold(c->state_lock);
    known = conn::read_end(c->state);
  }
  // A FIN seen by now is behind data that may have come since our look. Of a peer that lied nothing more
  // is read, whatever its head said before.
  const std::uint64_t end = c->reader.tail + readable_bytes(c);
  if (end != seen && !lost(c)) return 1;
  Hold hold(c->state_lock);
  if (keep_error && c->state.pending_error != 0) return 0;
  const conn::Answer a = conn::on_read(c->state, false, known);
  if (a.verdict == conn::Verdict::kLookAgain) return 1;
  if (a.verdict == conn::Verdict::kEndOfFile) return 0;
  if (a.verdict == conn::Verdict::kError) return -a.error;
  return -EAGAIN;
}

// A racy look at what would end a wait for data; the caller decides under the locks.
bool read_over(const Connection* c) {
  const conn::State& state = c->state;
  return state.peer_finished || state.dead || state.read_shut || state.pending_error != 0 ||
         c->gone_noticed.load(kRelaxed);
}

bool worth_a_look(const Connection* c, std::uint64_t seen) {
  if (read_over(c)) return true;
  const layout::Area* peer = c->peer.load(std::memory_order_acquire);
  if (peer == nullptr) return false;
  return Untrusted(peer->hot.head).copy() != seen ||
         (Untrusted(peer->hot.flags).copy() & layout::kKnownFlags) != 0;
}

// Waits until there may be something to read. `seen`: the head that was known to be consumed.
long wait_readable(int fd, Socket* s, std::uint64_t seen, std::int64_t deadline, VainWakes& vain) {
  Connection* c = s->connection;
  switch (spin_until(s->read_spin, deadline, [&] { return worth_a_look(c, seen); })) {
    case Spin::kReady:
      return 0;
    case Spin::kHandlerEnds:
      return -EINTR;
    case Spin::kHandlerRestarts:
      if (deadline != 0) return -EINTR;
      break;
    case Spin::kNothing:
      break;
  }
  if (!enter_sleep(fd, s, vain.force)) return 0;
  rouse_missed();
  bool sleep = true;
  {
    Hold rx(c->rx);
    arm_read(c);
    absorb_events(c);
    sleep = c->reader.tail + readable_bytes(c) == seen && !read_over(c) && !leaves_rings(c);
  }
  const std::uint64_t begin = ticks();
  long result = 0;
  if (sleep) {
    const Undo undo([c] {
      leave_sleep(c);
      Hold rx(c->rx);
      if (rx.owns()) disarm_read(c);
    });
    result = sleep_on_bell(fd, deadline);
  }
  const std::uint64_t slept_us = (ticks() - begin) / ticks_per_us;
  leave_sleep(c);
  {
    Hold rx(c->rx);
    if (rx.owns()) disarm_read(c);
  }
  if (!sleep) return 0;
  s->read_spin.slept(static_cast<std::uint32_t>(std::min<std::uint64_t>(slept_us, 1'000'000)));
  if (result == 0) vain.another();
  // The ring may stay where it is if it says what the ring buffer says too: the next sleep drains the bell.
  if (result != 0 || !worth_a_look(c, seen)) look_at_bell(fd, s);
  return result;
}

}  // namespace

Outcome receive_stream(int fd, Socket* s, const iovec* parts, std::size_t count, int flags) {
  if ((flags & MSG_OOB) != 0) return -EINVAL;  // no urgent data: TCP says the same
  if ((flags & MSG_ERRQUEUE) != 0) return -EAGAIN;
  Connection* c = s->connection;
  Scatter to(parts, count);
  const bool nothing_wanted = to.room() == 0;  // recv() of 0 bytes waits for data all the same
  std::size_t total = 0;
  std::int64_t deadline = -1;  // not started
  bool pinned = false;
  VainWakes vain;
  Outcome result = 0;
  for (;;) {
    std::uint64_t seen = 0;
    if (leaves_rings(c)) {
      if (!follow_downgrade(fd, s)) {
        result = -EINTR;
        break;
      }
      if (off_rings(c)) {
        const Undo undo([s, pinned] {
          if (pinned) unpin(s);
        });
        if (nothing_wanted) result = receive_with_rest(fd, s, parts, count, flags);
        while (to.room() > 0 && (total == 0 || (flags & MSG_WAITALL) != 0)) {
          const iovec part{to.at(), to.room()};
          result = receive_with_rest(fd, s, &part, 1, flags);
          if (result == kNotOurs && total > 0) {
            result =
                sys::recv(fd, part.iov_base, part.iov_len, flags & (MSG_DONTWAIT | MSG_WAITALL));
          }
          if (!result.is_value() || result.value() <= 0 || (flags & MSG_PEEK) != 0) break;
          total += static_cast<std::size_t>(result.value());
          to.advance(static_cast<std::size_t>(result.value()));
        }
        break;
      }
    }
    {
      Hold rx(c->rx);
      if (!rx.owns()) {
        result = c->nonblocking.load(kRelaxed) || (flags & MSG_DONTWAIT) != 0 ? -EAGAIN : -EINTR;
        break;
      }
      if (c->rx.recovered()) reset_broken(c);
      if (leaves_rings(c)) continue;
      if (!still_under(fd, s, c)) {
        // Closed by another thread. As in the kernel, a receive that slept through it still takes
        // what has come; the number may be another file by now, so nothing is rung.
        result = pinned ? Outcome(-EBADF) : kNotOurs;
        if (pinned) total += take(-1, c, to, flags, (flags & MSG_PEEK) != 0 ? total : 0);
        break;
      }
      const std::size_t n = take(fd, c, to, flags, (flags & MSG_PEEK) != 0 ? total : 0);
      total += n;
      if (n > 0 && (flags & MSG_PEEK) == 0) {
        vain = {};
        count_received(s, n);
      }
      if (nothing_wanted && readable_bytes(c) > 0) {
        result = 0;
        break;
      }
      if ((!nothing_wanted && to.room() == 0) || (total > 0 && (flags & MSG_WAITALL) == 0)) break;
      if (total == 0 && c->peer.load(kRelaxed) == nullptr) look_at_bell(fd, s);
      // What the look in take() has found, not what may have come since: the wait is for more.
      seen = c->reader.head;
      result = nothing_there(c, seen, total > 0);
      if (result == 1 && nothing_wanted) result = 0;
      if (result == 1) continue;
      if (result != -EAGAIN) break;
      if (c->nonblocking.load(kRelaxed) || (flags & MSG_DONTWAIT) != 0) {
        if (glance(fd, s)) continue;
        break;
      }
      if (!pinned) pin(s);
      pinned = true;
    }
    if (deadline < 0) {
      deadline = deadline_from(c->read_timeout_ns, sys::monotonic_ns());
    }
    {
      const Undo undo([s] { unpin(s); });
      result = wait_readable(fd, s, seen, deadline, vain);
    }
    if (result.value() < 0) break;
  }
  rouse_missed();
  if (pinned) unpin(s);
  return total > 0 ? Outcome(static_cast<long>(total)) : result;
}

}  // namespace shunt::sockets
