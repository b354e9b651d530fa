#include "sockets/wait/poll_call.h"

#include "base/trace.h"
#include "base/untrusted.h"
#include "sockets/bell/bell.h"
#include "sockets/bell/look.h"
#include "sockets/bell/sleep.h"
#include "sockets/connection/carriage.h"
#include "sockets/connection/peer_place.h"
#include "sockets/downgrade/follow.h"
#include "sockets/downgrade/moving_rest.h"
#include "sockets/process/missed.h"
#include "sockets/stream/stream.h"
#include "sockets/thread/cancel.h"
#include "sockets/wait/epoll_wait.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr std::uint32_t kOutBits = POLLOUT | POLLWRNORM;
// POLLMSG, which the kernel ignores: what we ask is about a bell.
constexpr short kBellBit = 0x400;

bool is_connection(const Socket* s) {
  return s != nullptr && s->kind.load(std::memory_order_acquire) == Kind::kConnection;
}

}  // namespace

bool special(const Socket* s) {
  if (s == nullptr) return false;
  const Kind kind = s->kind.load(std::memory_order_acquire);
  return kind == Kind::kConnection || kind == Kind::kListener || kind == Kind::kEpoll;
}

PollCall::PollCall(pollfd* fds, nfds_t count, pollfd* kernel, Socket** sockets)
    : fds_(fds), count_(count), kernel_(kernel), sockets_(sockets) {
  for (nfds_t i = 0; i < count; ++i) {
    sockets_[i] = fds[i].fd >= 0 ? lookup_pinned(fds[i].fd) : nullptr;
    if (sockets_[i] != nullptr && !special(sockets_[i])) {
      unpin(sockets_[i]);
      sockets_[i] = nullptr;
    }
    if (!is_connection(sockets_[i]) && fds[i].fd >= 0) others_ = true;
  }
}

PollCall::~PollCall() {
  for (nfds_t i = 0; i < count_; ++i) {
    if (sockets_[i] != nullptr) unpin(sockets_[i]);
  }
}

int PollCall::look() {
  int ready = 0;
  for (nfds_t i = 0; i < count_; ++i) {
    fds_[i].revents = 0;
    Socket* s = sockets_[i];
    std::uint32_t events = 0;
    const auto wanted = static_cast<std::uint32_t>(static_cast<std::uint16_t>(fds_[i].events));
    if (is_connection(s)) {
      const bool want_bell = s->connection->peer.load(std::memory_order_acquire) == nullptr;
      if (want_bell) look_at_bell(fds_[i].fd, s);
      if (armed_ && follow_due(s->connection)) {
        again_ = true;  // follow_downgrade() waits for sleepers, of which we are one
        continue;
      }
      events = stream_events(s, wanted) & (wanted | POLLERR | POLLHUP);
    } else if (s != nullptr && s->epoll != nullptr && (wanted & POLLIN) != 0) {
      events = epoll_has_hot_event(s) ? POLLIN : 0;
    } else if (s != nullptr && s->kind.load(std::memory_order_acquire) == Kind::kPlain) {
      others_ = true;  // downgraded since we began
    }
    fds_[i].revents = static_cast<short>(events);
    if (events != 0) ++ready;
  }
  rouse_missed();
  return ready;
}

long PollCall::look_in_kernel(int ready) {
  if (!others_) return ready;
  const timespec now{0, 0};
  prepare(false);
  const long r = sys::ppoll(kernel_, count_, &now, nullptr);
  if (r <= 0) return ready;
  return merge(ready);
}

bool PollCall::moved() const {
  for (nfds_t i = 0; i < count_; ++i) {
    if (!is_connection(sockets_[i])) continue;
    const Connection* c = sockets_[i]->connection;
    const layout::Area* peer = c->peer.load(std::memory_order_acquire);
    if (peer == nullptr && !has_answered(c)) continue;
    if (peer == nullptr || Untrusted(peer->hot.head).copy() != c->reader.tail ||
        Untrusted(peer->hot.flags).copy() != 0) {
      return true;
    }
  }
  return false;
}

void PollCall::arm(bool force) {
  armed_ = true;
  again_ = false;
  for (nfds_t i = 0; i < count_; ++i) {
    if (!is_connection(sockets_[i])) continue;
    Connection* c = sockets_[i]->connection;
    if (!enter_sleep(fds_[i].fd, sockets_[i], force)) {
      // Closed by another thread: not counted as a sleeper, so nothing to take back either.
      unpin(sockets_[i]);
      sockets_[i] = nullptr;
      continue;
    }
    if (off_rings(c)) continue;  // nobody rings any more: the kernel watches the stream itself
    {
      Hold rx(c->rx);
      if (rx.owns()) arm_read(c);
    }
    if ((fds_[i].events & kOutBits) != 0) {
      Hold tx(c->tx);
      if (tx.owns()) arm_write(c);
    }
  }
  rouse_missed();
}

void PollCall::disarm() {
  armed_ = false;
  for (nfds_t i = 0; i < count_; ++i) {
    if (!is_connection(sockets_[i])) continue;
    Connection* c = sockets_[i]->connection;
    leave_sleep(c);
    {
      Hold rx(c->rx);
      if (rx.owns()) disarm_read(c);
    }
    if ((fds_[i].events & kOutBits) != 0) {
      Hold tx(c->tx);
      if (tx.owns()) disarm_write(c);
    }
  }
}

long PollCall::sleep(const timespec* timeout, const sigset_t* mask) {
  prepare(true);
  const Undo undo([this] {
    disarm();
    this->~PollCall();
  });
  SHUNT_TRACE(poll_sleep, fds_, count_);
  long r = 0;
  {
    const CancelPoint point;
    r = sys::ppoll(kernel_, count_, timeout, mask);
  }
  SHUNT_TRACE(poll_wake, fds_, r);
  return r;
}

long PollCall::merge(int ready) {
  for (nfds_t i = 0; i < count_; ++i) {
    if (kernel_[i].revents == 0 || (kernel_[i].events & kBellBit) != 0) continue;
    if (fds_[i].revents == 0) ++ready;
    fds_[i].revents = static_cast<short>(fds_[i].revents | kernel_[i].revents);
  }
  return ready;
}

void PollCall::answer_bells() {
  for (nfds_t i = 0; i < count_; ++i) {
    if (is_connection(sockets_[i]) && kernel_[i].revents != 0) {
      look_at_bell(fds_[i].fd, sockets_[i]);
    }
  }
  rouse_missed();
}

SpinBudget* PollCall::spin() {
  for (nfds_t i = 0; i < count_; ++i) {
    if (is_connection(sockets_[i])) return &sockets_[i]->read_spin;
  }
  return nullptr;
}

void PollCall::prepare(bool with_bells) {
  for (nfds_t i = 0; i < count_; ++i) {
    kernel_[i] = fds_[i];
    kernel_[i].revents = 0;
    Socket* s = sockets_[i];
    if (s == nullptr) continue;
    if (is_connection(s)) {
      const auto wanted = static_cast<std::uint16_t>(fds_[i].events);
      const std::uint32_t events =
          off_rings(s->connection) ? kernel_events_with_rest(s, wanted) : POLLIN;
      kernel_[i].events = static_cast<short>(static_cast<short>(events) | kBellBit);
      if (!with_bells) kernel_[i].fd = -1;
    } else if (s->listener != nullptr) {
      kernel_[i].fd = waiting_descriptor(fds_[i].fd, s);
    }
  }
}

}  // namespace shunt::sockets
