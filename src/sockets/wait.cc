#include "sockets/wait.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/untrusted.h"
#include "sockets/bell.h"
#include "sockets/cancel.h"
#include "sockets/downgrade.h"
#include "sockets/epoll.h"
#include "sockets/listener.h"
#include "sockets/stream_internal.h"
#include "sockets/trim.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr std::uint32_t kOutBits = POLLOUT | POLLWRNORM;
constexpr nfds_t kOnStack = 256;
constexpr short kBellBit = 0x400;  // POLLMSG, which the kernel ignores: what we ask is about a bell

bool special(const Socket* s) {
  if (s == nullptr) return false;
  const Kind kind = s->kind.load(std::memory_order_acquire);
  return kind == Kind::kConnection || kind == Kind::kListener || kind == Kind::kEpoll;
}

bool is_connection(const Socket* s) {
  return s != nullptr && s->kind.load(std::memory_order_acquire) == Kind::kConnection;
}

// One poll call: the program's array and the one that the kernel gets.
class Poll {
 public:
  Poll(pollfd* fds, nfds_t count, pollfd* kernel, Socket** sockets)
      : fds_(fds), count_(count), kernel_(kernel), sockets_(sockets) {
    for (nfds_t i = 0; i < count; ++i) {
      sockets_[i] = fds[i].fd >= 0 ? lookup_pinned(fds[i].fd) : nullptr;
      if (sockets_[i] != nullptr && !special(sockets_[i])) {
        unpin(sockets_[i]);
        sockets_[i] = nullptr;
      }
      if (is_connection(sockets_[i])) {
        ++connections_;
      } else if (fds[i].fd >= 0) {
        others_ = true;
      }
    }
  }
  ~Poll() {
    for (nfds_t i = 0; i < count_; ++i) {
      if (sockets_[i] != nullptr) unpin(sockets_[i]);
    }
  }
  Poll(const Poll&) = delete;
  Poll& operator=(const Poll&) = delete;

  // Fills revents from what user space knows; returns how many are non-zero.
  int look() {
    int ready = 0;
    for (nfds_t i = 0; i < count_; ++i) {
      fds_[i].revents = 0;
      Socket* s = sockets_[i];
      std::uint32_t events = 0;
      const auto wanted = static_cast<std::uint32_t>(static_cast<std::uint16_t>(fds_[i].events));
      if (is_connection(s)) {
        const bool want_bell = s->connection->peer.load(std::memory_order_acquire) == nullptr;
        if (want_bell) look_at_bell(fds_[i].fd, s);
        if (armed_ && leaves_rings(s->connection) && follow_due(s->connection)) {
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

  // Asks the kernel about everything else without waiting and merges; returns how many are ready.
  long look_in_kernel(int ready) {
    if (!others_) return ready;
    const timespec now{0, 0};
    prepare(false);
    const long r = sys::ppoll(kernel_, count_, &now, nullptr);
    if (r <= 0) return ready;
    return merge(ready);
  }

  bool moved() const {
    for (nfds_t i = 0; i < count_; ++i) {
      if (!is_connection(sockets_[i])) continue;
      const Connection* c = sockets_[i]->connection;
      const layout::Area* peer = c->peer.load(std::memory_order_acquire);
      if (peer == nullptr) continue;
      if (Untrusted(peer->hot.head).copy() != c->reader.tail ||
          Untrusted(peer->hot.flags).copy() != 0) {
        return true;
      }
    }
    return false;
  }

  // Announces sleep on every connection; afterwards look() once more.
  void arm(bool force) {
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
      if (downgraded(c)) continue;  // nobody rings any more: the kernel watches the stream itself
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
  void disarm() {
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

  // A cancellation point. Armed before; the caller disarms.
  long sleep(const timespec* timeout, const sigset_t* mask) {
    prepare(true);
    const Undo undo([this] {
      disarm();
      this->~Poll();
    });
    const CancelPoint point;
    return sys::ppoll(kernel_, count_, timeout, mask);
  }
  // After sleep(): the kernel's own descriptors into revents.
  long merge(int ready) {
    for (nfds_t i = 0; i < count_; ++i) {
      if (kernel_[i].revents == 0 || (kernel_[i].events & kBellBit) != 0) continue;
      if (fds_[i].revents == 0) ++ready;
      fds_[i].revents = static_cast<short>(fds_[i].revents | kernel_[i].revents);
    }
    return ready;
  }
  // A bell may announce the other side's end or CONNECTED.
  void answer_bells() {
    for (nfds_t i = 0; i < count_; ++i) {
      if (is_connection(sockets_[i]) && kernel_[i].revents != 0) {
        look_at_bell(fds_[i].fd, sockets_[i]);
      }
    }
    rouse_missed();
  }
  bool again() const { return again_; }
  SpinBudget* spin() {
    for (nfds_t i = 0; i < count_; ++i) {
      if (is_connection(sockets_[i])) return &sockets_[i]->read_spin;
    }
    return nullptr;
  }

 private:
  void prepare(bool with_bells) {
    for (nfds_t i = 0; i < count_; ++i) {
      kernel_[i] = fds_[i];
      kernel_[i].revents = 0;
      Socket* s = sockets_[i];
      if (s == nullptr) continue;
      if (is_connection(s)) {
        const auto wanted = static_cast<std::uint16_t>(fds_[i].events);
        const std::uint32_t events =
            downgraded(s->connection) ? kernel_events_with_rest(s, wanted) : POLLIN;
        kernel_[i].events = static_cast<short>(static_cast<short>(events) | kBellBit);
        if (!with_bells) kernel_[i].fd = -1;
      } else if (s->listener != nullptr) {
        kernel_[i].fd = waiting_descriptor(fds_[i].fd, s);
      }
    }
  }

  pollfd* fds_;
  nfds_t count_;
  pollfd* kernel_;
  Socket** sockets_;
  int connections_ = 0;
  bool others_ = false;
  bool armed_ = false;
  bool again_ = false;  // look again, not armed, before sleeping
};

long run(Poll& poll, std::int64_t timeout_ns, const sigset_t* mask) {
  const std::int64_t deadline = timeout_ns < 0 ? -1 : sys::monotonic_ns() + timeout_ns;
  VainWakes vain;
  for (;;) {
    const int ready = poll.look();
    if (ready > 0 || timeout_ns == 0) {
      if (timeout_ns == 0) {
        // A program that only ever asks must still learn of a peer that is gone.
        poll.arm(false);
        poll.disarm();
        return poll.look_in_kernel(poll.look());
      }
      return poll.look_in_kernel(ready);
    }
    SpinBudget* spin = poll.spin();
    const Spin spun = spin != nullptr ? spin_until(*spin, deadline, [&] { return poll.moved(); })
                                      : Spin::kNothing;
    if (spun == Spin::kHandlerEnds || spun == Spin::kHandlerRestarts) return -EINTR;
    if (spun == Spin::kReady) {
      const int now = poll.look();
      if (now > 0) return poll.look_in_kernel(now);
    }
    timespec left{};
    if (deadline >= 0) {
      left = sys::timespec_of(std::max<std::int64_t>(0, deadline - sys::monotonic_ns()));
    }
    trim_idle();
    poll.arm(vain.force);
    long r = poll.look();
    const std::uint64_t begin = ticks();
    if (r == 0 && poll.again()) {
      poll.disarm();
      continue;
    }
    if (r == 0) {
      r = poll.sleep(deadline >= 0 ? &left : nullptr, mask);
      if (spin != nullptr) {
        spin->slept(static_cast<std::uint32_t>((ticks() - begin) / ticks_per_us));
      }
      poll.disarm();
      if (r < 0) return r;
      poll.answer_bells();
      const int user = poll.look();
      const long total = poll.merge(user);
      // A bell that is readable for ever (its other end was shut down) must not hide the deadline.
      if (total > 0 || r == 0 || (deadline >= 0 && sys::monotonic_ns() >= deadline)) return total;
      vain.another();
      continue;
    }
    poll.disarm();
    return poll.look_in_kernel(static_cast<int>(r));
  }
}

}  // namespace

long wait_poll(pollfd* fds, nfds_t count, std::int64_t timeout_ns, const sigset_t* mask) {
  bool any = false;
  for (nfds_t i = 0; i < count && !any; ++i) any = fds[i].fd >= 0 && special(lookup(fds[i].fd));
  if (!any) return kPassToKernel;
  if (count <= kOnStack) {
    pollfd kernel[kOnStack];
    Socket* sockets[kOnStack];
    Poll poll(fds, count, kernel, sockets);
    return run(poll, timeout_ns, mask);
  }
  const std::size_t bytes = count * (sizeof(pollfd) + sizeof(void*));  // kernel's array, sockets
  void* memory =
      sys::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == nullptr) return -ENOMEM;
  long r = 0;
  {
    auto* sockets = static_cast<Socket**>(memory);
    auto* kernel = reinterpret_cast<pollfd*>(sockets + count);
    const Undo undo([memory, bytes] { sys::munmap(memory, bytes); });
    Poll poll(fds, count, kernel, sockets);
    r = run(poll, timeout_ns, mask);
  }
  sys::munmap(memory, bytes);
  return r;
}

long wait_select(int count, fd_set* read, fd_set* write, fd_set* except, std::int64_t timeout_ns,
                 const sigset_t* mask) {
  if (count < 0) return -EINVAL;
  count = std::min(count, FD_SETSIZE);
  pollfd fds[FD_SETSIZE];
  nfds_t used = 0;
  bool any = false;
  for (int fd = 0; fd < count; ++fd) {
    short events = 0;
    if (read != nullptr && FD_ISSET(fd, read)) events |= POLLIN;
    if (write != nullptr && FD_ISSET(fd, write)) events |= POLLOUT;
    if (except != nullptr && FD_ISSET(fd, except)) events |= POLLPRI;
    if (events == 0) continue;
    any = any || special(lookup(fd));
    fds[used++] = {fd, events, 0};
  }
  if (!any) return kPassToKernel;
  const long r = wait_poll(fds, used, timeout_ns, mask);
  if (r < 0) return r;
  for (nfds_t i = 0; i < used; ++i) {
    if ((fds[i].revents & POLLNVAL) != 0) return -EBADF;
  }
  int bits = 0;
  const auto keep = [&](fd_set* set, const pollfd& p, short wanted, int events) {
    if ((p.events & wanted) == 0) return;
    if ((p.revents & events) != 0) {
      ++bits;
    } else {
      FD_CLR(p.fd, set);
    }
  };
  for (nfds_t i = 0; i < used; ++i) {
    // The kernel's own mapping of poll events to the three sets.
    keep(read, fds[i], POLLIN, POLLIN | POLLRDNORM | POLLRDBAND | POLLHUP | POLLERR);
    keep(write, fds[i], POLLOUT, POLLOUT | POLLWRNORM | POLLWRBAND | POLLERR);
    keep(except, fds[i], POLLPRI, POLLPRI);
  }
  return bits;
}

}  // namespace shunt::sockets
