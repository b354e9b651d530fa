#include "sockets/wait/poll_select.h"

#include <algorithm>
#include <cerrno>

#include "sockets/bell/sleep.h"
#include "sockets/connection/idle_memory.h"
#include "sockets/process/result.h"
#include "sockets/thread/cancel.h"
#include "sockets/wait/poll_call.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr nfds_t kOnStack = 256;

long run(PollCall& poll, std::int64_t timeout_ns, const sigset_t* mask) {
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

Outcome wait_poll(pollfd* fds, nfds_t count, std::int64_t timeout_ns, const sigset_t* mask) {
  bool any = false;
  for (nfds_t i = 0; i < count && !any; ++i) any = fds[i].fd >= 0 && special(lookup(fds[i].fd));
  if (!any) return kPassOn;
  if (count <= kOnStack) {
    pollfd kernel[kOnStack];
    Socket* sockets[kOnStack];
    PollCall poll(fds, count, kernel, sockets);
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
    PollCall poll(fds, count, kernel, sockets);
    r = run(poll, timeout_ns, mask);
  }
  sys::munmap(memory, bytes);
  return r;
}

Outcome wait_select(int count, fd_set* read, fd_set* write, fd_set* except, std::int64_t timeout_ns,
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
  if (!any) return kPassOn;
  const Outcome r = wait_poll(fds, used, timeout_ns, mask);
  if (!r.is_value() || r.value() < 0) return r;
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
