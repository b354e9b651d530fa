#include "sockets/stream/receive.h"

#include <poll.h>

#include <algorithm>
#include <cassert>
#include <cerrno>

#include "base/untrusted.h"
#include "sockets/bell/bell.h"
#include "sockets/bell/checked_rings.h"
#include "sockets/bell/look.h"
#include "sockets/bell/sleep.h"
#include "sockets/connection/carriage.h"
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
  assert(c->rx.held_by_me());
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

// Why nothing more could be moved: look again, or the answer; -EAGAIN: wait.
struct Nothing {
  bool look_again;
  long answer;
};

// With rx held, when no further byte could be moved although the peer's head was at `seen`. `keep_error`: bytes are to
// be reported now, an error by the next call.
Nothing nothing_there(Connection* c, std::uint64_t seen, bool keep_error) {
  assert(c->rx.held_by_me());
  constexpr Nothing kLookAgain{true, 0};
  absorb_events(c);
  if (follow_due(c)) return kLookAgain;
  conn::ReadEnd known{};
  {
    Hold hold(c->state_lock);
    known = conn::read_end(c->state);
  }
  // A FIN seen by now is behind data that may have come since our look. Of a peer that lied nothing more
  // is read, whatever its head said before.
  const std::uint64_t end = c->reader.tail + readable_bytes(c);
  if (end != seen && !lost(c)) return kLookAgain;
  Hold hold(c->state_lock);
  if (keep_error && c->state.pending_error != 0) return {false, 0};
  const conn::Answer a = conn::on_read(c->state, false, known);
  if (a.verdict == conn::Verdict::kLookAgain) return kLookAgain;
  if (a.verdict == conn::Verdict::kEndOfFile) return {false, 0};
  if (a.verdict == conn::Verdict::kError) return {false, -a.error};
  return {false, -EAGAIN};
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
  if (peer == nullptr) return has_answered(c);
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
    sleep = c->reader.tail + readable_bytes(c) == seen && !read_over(c) && !leaves_rings(c) &&
            !has_answered(c);
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

// One call of the program.
class Receiving {
 public:
  Receiving(int fd, Socket* s, const iovec* parts, std::size_t count, int flags)
      : fd_(fd),
        s_(s),
        c_(s->connection),
        parts_(parts),
        count_(count),
        flags_(flags),
        to_(parts, count),
        nothing_wanted_(to_.room() == 0) {}

  Outcome run() {
    for (;;) {
      Step step = Step::kAnswer;
      {
        Entry in(fd_, s_, Side::kRead);
        switch (in.way()) {
          case Way::kRings:
            step = move();
            break;
          case Way::kRest:
            in.release();
            receive_behind_rest();
            break;
          case Way::kElsewhere:
            // Closed by another thread. As in the kernel, a receive that slept through it still takes
            // what has come; the number may be another file by now, so nothing is rung.
            result_ = pinned_ ? Outcome(-EBADF) : kNotOurs;
            if (pinned_) total_ += take(-1, c_, to_, flags_, peeked());
            break;
          case Way::kInside:
            result_ = dont_wait() ? -EAGAIN : -EINTR;
            break;
          case Way::kLater:
            result_ = -EINTR;
            break;
        }
      }
      if (step == Step::kWait && wait()) continue;
      if (step != Step::kAgain) break;
    }
    rouse_missed();
    if (pinned_) unpin(s_);
    return total_ > 0 ? Outcome(static_cast<long>(total_)) : result_;
  }

 private:
  enum class Step { kAnswer, kAgain, kWait };

  bool dont_wait() const { return c_->nonblocking.load(kRelaxed) || (flags_ & MSG_DONTWAIT) != 0; }
  bool peeks() const { return (flags_ & MSG_PEEK) != 0; }
  bool waits_for_all() const { return (flags_ & MSG_WAITALL) != 0; }
  std::size_t peeked() const { return peeks() ? total_ : 0; }

  // With rx held and the rings in use.
  Step move() {
    assert(c_->rx.held_by_me() && !off_rings(c_));
    const std::size_t n = take(fd_, c_, to_, flags_, peeked());
    total_ += n;
    if (n > 0 && !peeks()) {
      vain_ = {};
      count_received(s_, n);
    }
    if (nothing_wanted_ && readable_bytes(c_) > 0) {
      result_ = 0;
      return Step::kAnswer;
    }
    if (!nothing_wanted_ && to_.room() == 0) return Step::kAnswer;
    if (total_ > 0 && !waits_for_all()) return Step::kAnswer;
    // Who waits looks at the bell when he does.
    if (total_ == 0 && c_->peer.load(kRelaxed) == nullptr && (dont_wait() || has_answered(c_)))
      look_at_bell(fd_, s_);
    // What the look in take() has found, not what may have come since: the wait is for more.
    seen_ = c_->reader.head;
    const Nothing nothing = nothing_there(c_, seen_, total_ > 0);
    if (nothing.look_again && !nothing_wanted_) return Step::kAgain;
    result_ = nothing.look_again ? 0 : nothing.answer;
    if (result_ != -EAGAIN) return Step::kAnswer;
    if (dont_wait()) return glance(fd_, s_) ? Step::kAgain : Step::kAnswer;
    if (!pinned_) pin(s_);
    pinned_ = true;
    return Step::kWait;
  }

  void receive_behind_rest() {
    const Undo undo([this] {
      if (pinned_) unpin(s_);
    });
    if (nothing_wanted_) result_ = receive_with_rest(fd_, s_, parts_, count_, flags_);
    while (to_.room() > 0 && (total_ == 0 || waits_for_all())) {
      const iovec part{to_.at(), to_.room()};
      result_ = receive_with_rest(fd_, s_, &part, 1, flags_);
      if (result_ == kNotOurs && total_ > 0) {
        result_ =
            sys::recv(fd_, part.iov_base, part.iov_len, flags_ & (MSG_DONTWAIT | MSG_WAITALL));
      }
      if (!result_.is_value() || result_.value() <= 0 || peeks()) return;
      total_ += static_cast<std::size_t>(result_.value());
      to_.advance(static_cast<std::size_t>(result_.value()));
    }
  }

  // For data. False: the time is over, or a handler ends the call.
  bool wait() {
    if (deadline_ < 0) deadline_ = deadline_from(c_->read_timeout_ns, sys::monotonic_ns());
    const Undo undo([this] { unpin(s_); });
    result_ = wait_readable(fd_, s_, seen_, deadline_, vain_);
    return result_.value() >= 0;
  }

  const int fd_;
  Socket* const s_;
  Connection* const c_;
  const iovec* const parts_;
  const std::size_t count_;
  const int flags_;
  Scatter to_;
  const bool nothing_wanted_;  // recv() of 0 bytes waits for data all the same
  std::size_t total_ = 0;
  std::uint64_t seen_ = 0;
  std::int64_t deadline_ = -1;  // not started
  bool pinned_ = false;
  VainWakes vain_;
  Outcome result_ = 0;
};

}  // namespace

Outcome receive_stream(int fd, Socket* s, const iovec* parts, std::size_t count, int flags) {
  if ((flags & MSG_OOB) != 0) return -EINVAL;  // no urgent data: TCP says the same
  if ((flags & MSG_ERRQUEUE) != 0) return -EAGAIN;
  return Receiving(fd, s, parts, count, flags).run();
}

}  // namespace shunt::sockets
