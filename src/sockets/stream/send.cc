#include "sockets/stream/send.h"

#include <poll.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>

#include "base/untrusted.h"
#include "ring/fence.h"
#include "sockets/bell/bell.h"
#include "sockets/bell/checked_rings.h"
#include "sockets/bell/look.h"
#include "sockets/connection/buffers.h"
#include "sockets/connection/carriage.h"
#include "sockets/connection/idle_memory.h"
#include "sockets/connection/peer_place.h"
#include "sockets/downgrade/entry.h"
#include "sockets/downgrade/follow.h"
#include "sockets/downgrade/moving_rest.h"
#include "sockets/process/missed.h"
#include "sockets/process/result.h"
#include "sockets/process/status.h"
#include "sockets/thread/cancel.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr int kIgnored = MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE | MSG_CONFIRM | MSG_EOR |
                         MSG_DONTROUTE |
                         MSG_ZEROCOPY;  // zero-copy needs SO_ZEROCOPY, which is refused
constexpr std::size_t kDeferredBytes = 4096;

// What signal handlers of this thread wrote while it was inside send_stream for the same socket.
struct Deferred {
  Connection* connection;
  std::size_t size;
  std::uint8_t bytes[kDeferredBytes];
};
thread_local Deferred deferred __attribute__((tls_model("initial-exec")));

long defer(Connection* c, const iovec* parts, std::size_t count) {
  if (deferred.size > 0 && deferred.connection != c) return -EAGAIN;
  deferred.connection = c;
  std::size_t total = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t n = std::min(parts[i].iov_len, kDeferredBytes - deferred.size);
    std::memcpy(deferred.bytes + deferred.size, parts[i].iov_base, n);
    deferred.size += n;
    total += n;
    if (n < parts[i].iov_len) break;
  }
  return total > 0 ? static_cast<long>(total) : -EAGAIN;
}

// Makes bytes visible and wakes the reader. With tx held.
void publish(int fd, Socket* s, ring::Writer& writer) {
  Connection* c = s->connection;
  assert(c->tx.held_by_me());
  writer.publish();
  if (c->peer.load(kRelaxed) == nullptr) {
    // The accepting side may have mapped our area and gone to sleep before we know its: its answer is then in its
    // area, or CONNECTED on the bell, because that comes before the sleep and our look after publishing.
    ring::full_fence();
    look_at_bell(fd, s);
    ring::Writer late = c->write_end();
    if (late.must_ring()) ring(fd, c);
    return;
  }
  if (writer.must_ring()) ring(fd, c);
}

// Appends as much as fits. With tx held. Returns bytes appended; *error: corrupt peer.
std::size_t put(int fd, Socket* s, const iovec* parts, std::size_t count, std::size_t skip) {
  Connection* c = s->connection;
  assert(c->tx.held_by_me());
  ring::Writer writer = c->write_end();
  writer.take_echo();
  std::size_t total = 0;
  std::size_t unpublished = 0;
  bool full = false;
  for (std::size_t i = 0; i < count && !full; ++i) {
    const auto* from = static_cast<const std::uint8_t*>(parts[i].iov_base);
    std::size_t left = parts[i].iov_len;
    const std::size_t jump = std::min(skip, left);
    skip -= jump;
    from += jump;
    left -= jump;
    while (left > 0) {
      ring::Status status;
      const std::size_t n = writer.append(from, left, &status);
      if (status != ring::Status::kOk) reset_untrusted(c);
      if (n == 0) {
        full = true;
        break;
      }
      from += n;
      left -= n;
      total += n;
      unpublished += n;
      if (unpublished >= layout::kSegmentBytes) {
        publish(fd, s, writer);
        writer = c->write_end();
        unpublished = 0;
      }
    }
  }
  if (unpublished > 0) publish(fd, s, writer);
  if (total > 0) {
    settle_segments(c);
    count_sent(s, total);
  }
  return total;
}

// What signal handlers left for us; a full buffer loses nothing: the rest waits for the next send.
void flush_deferred(int fd, Socket* s) {
  while (deferred.size > 0 && deferred.connection == s->connection) {
    const iovec part{deferred.bytes, deferred.size};
    const std::size_t n = put(fd, s, &part, 1, 0);
    if (n == 0) return;
    std::memmove(deferred.bytes, deferred.bytes + n, deferred.size - n);
    deferred.size -= n;
  }
}

// With tx held: kGo, kDiscard or kError.
conn::Answer may_send(Connection* c) {
  assert(c->tx.held_by_me());
  if (!c->trouble.load(std::memory_order_acquire)) {
    const layout::Area* peer = c->peer.load(kRelaxed);
    // The line was read for its waiting flags moments ago: no extra transfer.
    if (peer == nullptr || Untrusted(peer->hot.flags).copy() == 0) return {conn::Verdict::kGo, 0};
  }
  absorb_events(c);
  Hold hold(c->state_lock);
  const conn::Answer a = conn::on_write(c->state);
  c->trouble.store(true, std::memory_order_release);
  return a;
}

// A racy look at what would end a wait for space; the caller decides under the locks.
bool write_over(const Connection* c) {
  const conn::State& state = c->state;
  return state.dead || state.write_shut || state.peer_gone || state.pending_error != 0 ||
         c->gone_noticed.load(kRelaxed);
}

}  // namespace

long wait_writable(int fd, Socket* s, std::int64_t deadline, VainWakes& vain) {
  Connection* c = s->connection;
  if (has_answered(c)) {
    look_at_bell(fd, s);
    return 0;
  }
  const std::uint64_t tail = c->writer.tail;
  const Spin hot = spin_until(s->write_spin, deadline, [&] {
    const layout::Area* peer = c->peer.load(std::memory_order_acquire);
    return write_over(c) ||
           (peer != nullptr ? Untrusted(peer->tail.tail).copy() - tail >= layout::kSegmentBytes
                            : has_answered(c));
  });
  if (hot == Spin::kReady) return 0;
  if (hot == Spin::kHandlerEnds || (hot == Spin::kHandlerRestarts && deadline != 0)) return -EINTR;
  if (!enter_sleep(fd, s, vain.force)) return 0;
  rouse_missed();
  bool sleep = true;
  {
    Hold tx(c->tx);
    arm_write(c);
    absorb_events(c);
    sleep = !writer_has_room(c) && !write_over(c) && !leaves_rings(c) && !has_answered(c);
  }
  const std::uint64_t begin = ticks();
  long result = 0;
  if (sleep) {
    const Undo undo([c] {
      leave_sleep(c);
      Hold tx(c->tx);
      if (tx.owns()) disarm_write(c);
    });
    result = sleep_on_bell(fd, deadline);
  }
  const std::uint64_t slept_us = (ticks() - begin) / ticks_per_us;
  leave_sleep(c);
  {
    Hold tx(c->tx);
    if (tx.owns()) disarm_write(c);
  }
  if (!sleep) return 0;
  s->write_spin.slept(static_cast<std::uint32_t>(std::min<std::uint64_t>(slept_us, 1'000'000)));
  if (result == 0) vain.another();
  look_at_bell(fd, s);
  return result;
}

namespace {

// One call of the program.
class Sending {
 public:
  Sending(int fd, Socket* s, const iovec* parts, std::size_t count, int flags)
      : fd_(fd),
        s_(s),
        c_(s->connection),
        parts_(parts),
        count_(count),
        flags_(flags),
        size_(total_size(parts, count)) {}

  Outcome run() {
    for (;;) {
      Step step = Step::kAnswer;
      {
        Entry in(fd_, s_, Side::kWrite);
        switch (in.way()) {
          case Way::kRings:
            step = append();
            break;
          case Way::kRest:
            in.release();
            send_behind_rest();
            break;
          case Way::kElsewhere:
            result_ = done_ > 0 || pinned_ ? Outcome(-EBADF) : kNotOurs;
            break;
          case Way::kInside:
            return defer(c_, parts_, count_);
          case Way::kLater:
            result_ = -EAGAIN;
            break;
        }
      }
      if (step == Step::kWait && wait()) continue;
      if (step != Step::kAgain) break;
    }
    // The peer has left its rings while we wrote: what we wrote is sent over the bell.
    if (leaves_rings(c_)) follow_downgrade(fd_, s_);
    rouse_missed();
    if (pinned_) unpin(s_);
    return done_ > 0 || size_ == 0 ? Outcome(static_cast<long>(done_)) : result_;
  }

 private:
  enum class Step { kAnswer, kAgain, kWait };

  bool dont_wait() const { return (flags_ & MSG_DONTWAIT) != 0 || c_->nonblocking.load(kRelaxed); }

  // With tx held and the rings in use.
  Step append() {
    assert(c_->tx.held_by_me() && !off_rings(c_));
    if (done_ > 0 && write_over(c_)) return Step::kAnswer;  // the next call reports why
    // Unread bytes, as far as known: a peer that is alive and fast leaves none behind.
    c_->write_end().take_echo();
    if (c_->write_end().in_flight() > 0) glance(fd_, s_);
    const conn::Answer allowed = may_send(c_);
    if (follow_due(c_)) return Step::kAgain;
    if (allowed.verdict == conn::Verdict::kDiscard) {
      done_ = size_;  // as the write that TCP answers with RST
      return Step::kAnswer;
    }
    if (allowed.verdict == conn::Verdict::kError) {
      result_ = -allowed.error;
      return Step::kAnswer;
    }
    if (deferred.size > 0) flush_deferred(fd_, s_);
    const std::size_t n = put(fd_, s_, parts_, count_, done_);
    done_ += n;
    if (n > 0) vain_ = {};
    if (deferred.size > 0) flush_deferred(fd_, s_);
    if (done_ == size_) return Step::kAnswer;
    // The peer's tail was found to be a lie just now: that is the answer, not EAGAIN.
    if (n == 0 && lost(c_)) return Step::kAgain;
    c_->space_lacks.fetch_add(1, kRelaxed);
    result_ = -EAGAIN;
    if (dont_wait()) return Step::kAnswer;
    if (!pinned_) pin(s_);
    pinned_ = true;
    return Step::kWait;
  }

  void send_behind_rest() {
    if (done_ > 0 && dont_wait()) return;
    const Undo undo([this] {
      if (pinned_) unpin(s_);
    });
    result_ = send_with_rest(fd_, s_, parts_, count_, done_, flags_);
    if (result_.is_value() && result_.value() > 0) {
      done_ = static_cast<std::size_t>(result_.value());
    }
  }

  // For room. False: the time is over, or a handler ends the call.
  bool wait() {
    if (deadline_ < 0) deadline_ = deadline_from(c_->write_timeout_ns, sys::monotonic_ns());
    const Undo undo([this] { unpin(s_); });
    result_ = wait_writable(fd_, s_, deadline_, vain_);
    return result_.value() >= 0;
  }

  const int fd_;
  Socket* const s_;
  Connection* const c_;
  const iovec* const parts_;
  const std::size_t count_;
  const int flags_;
  const std::size_t size_;
  std::size_t done_ = 0;
  std::int64_t deadline_ = -1;  // not started
  bool pinned_ = false;
  VainWakes vain_;
  Outcome result_ = 0;
};

}  // namespace

Outcome send_stream(int fd, Socket* s, const iovec* parts, std::size_t count, int flags) {
  if ((flags & ~kIgnored) != 0) return -EOPNOTSUPP;
  return Sending(fd, s, parts, count, flags).run();
}

}  // namespace shunt::sockets
