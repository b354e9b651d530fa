// Waiting for sockets.
#include "preload/call.h"
#include "preload/libc.h"
#include "sockets/process/result.h"
#include "sockets/wait/epoll_control.h"
#include "sockets/wait/epoll_lifetime.h"
#include "sockets/wait/epoll_wait.h"
#include "sockets/wait/poll_select.h"
#include "sys/kernel.h"

extern "C" void __chk_fail() __attribute__((noreturn));

namespace shunt::preload {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

std::int64_t from_ms(int ms) { return ms < 0 ? -1 : ms * std::int64_t{1'000'000}; }

// -1: for ever; -2: not a valid time.
std::int64_t from_timespec(const timespec* t) {
  if (t == nullptr) return -1;
  if (t->tv_sec < 0 || t->tv_nsec < 0 || t->tv_nsec >= kSecond) return -2;
  if (t->tv_sec > INT64_MAX / kSecond / 2) return -1;
  return t->tv_sec * kSecond + t->tv_nsec;
}

sockets::Outcome epoll_any(int epfd, epoll_event* events, int max, std::int64_t timeout_ns,
                           const sigset_t* mask) {
  return sockets::wait_epoll(epfd, events, max, timeout_ns, mask);
}

}  // namespace
}  // namespace shunt::preload

using namespace shunt;           // NOLINT(google-build-using-namespace): exported C functions below
using namespace shunt::preload;  // NOLINT(google-build-using-namespace)

SHUNT_EXPORT int poll(pollfd* fds, nfds_t count, int timeout_ms) {
  const sockets::Outcome r = sockets::wait_poll(fds, count, from_ms(timeout_ms), nullptr);
  return r == sockets::kPassOn ? libc().poll(fds, count, timeout_ms) : finish(r);
}
SHUNT_EXPORT int __poll(pollfd* fds, nfds_t count, int timeout_ms) {
  return poll(fds, count, timeout_ms);
}
SHUNT_EXPORT int __poll_chk(pollfd* fds, nfds_t count, int timeout_ms, size_t room) {
  if (room / sizeof *fds < count) __chk_fail();
  return poll(fds, count, timeout_ms);
}

SHUNT_EXPORT int ppoll(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask) {
  const std::int64_t ns = from_timespec(timeout);
  const sockets::Outcome r = ns == -2 ? sockets::kPassOn : sockets::wait_poll(fds, count, ns, mask);
  return r == sockets::kPassOn ? libc().ppoll(fds, count, timeout, mask) : finish(r);
}
SHUNT_EXPORT int __ppoll_chk(pollfd* fds, nfds_t count, const timespec* timeout,
                             const sigset_t* mask, size_t room) {
  if (room / sizeof *fds < count) __chk_fail();
  return ppoll(fds, count, timeout, mask);
}

SHUNT_EXPORT int select(int count, fd_set* in, fd_set* out, fd_set* except, timeval* timeout) {
  std::int64_t ns = -1;
  if (timeout != nullptr) {
    if (timeout->tv_sec < 0 || timeout->tv_usec < 0) return finish(-EINVAL);
    ns = timeout->tv_sec * kSecond + timeout->tv_usec * std::int64_t{1000};
  }
  const std::int64_t begin = timeout != nullptr ? sys::monotonic_ns() : 0;
  const sockets::Outcome r = sockets::wait_select(count, in, out, except, ns, nullptr);
  if (r == sockets::kPassOn) return libc().select(count, in, out, except, timeout);
  if (timeout != nullptr) {
    // Linux leaves the remaining time.
    const std::int64_t spent = sys::monotonic_ns() - begin;
    const std::int64_t left = spent < ns ? ns - spent : 0;
    timeout->tv_sec = left / kSecond;
    timeout->tv_usec = left % kSecond / 1000;
  }
  return finish(r);
}
SHUNT_EXPORT int __select(int count, fd_set* in, fd_set* out, fd_set* except, timeval* timeout) {
  return select(count, in, out, except, timeout);
}

SHUNT_EXPORT int pselect(int count, fd_set* in, fd_set* out, fd_set* except,
                         const timespec* timeout, const sigset_t* mask) {
  const std::int64_t ns = from_timespec(timeout);
  const sockets::Outcome r =
      ns == -2 ? sockets::kPassOn : sockets::wait_select(count, in, out, except, ns, mask);
  return r == sockets::kPassOn ? libc().pselect(count, in, out, except, timeout, mask) : finish(r);
}

SHUNT_EXPORT int epoll_create(int size) noexcept {
  const int fd = libc().epoll_create(size);
  if (fd >= 0) sockets::made_epoll(fd);
  return fd;
}

SHUNT_EXPORT int epoll_create1(int flags) noexcept {
  const int fd = libc().epoll_create1(flags);
  if (fd >= 0) sockets::made_epoll(fd);
  return fd;
}

SHUNT_EXPORT int epoll_ctl(int epfd, int operation, int fd, epoll_event* event) noexcept {
  const sockets::Outcome r = sockets::control_epoll(epfd, operation, fd, event);
  return r == sockets::kPassOn ? libc().epoll_ctl(epfd, operation, fd, event) : finish(r);
}

SHUNT_EXPORT int epoll_wait(int epfd, epoll_event* events, int max, int timeout_ms) {
  const sockets::Outcome r = epoll_any(epfd, events, max, from_ms(timeout_ms), nullptr);
  return r == sockets::kPassOn ? libc().epoll_wait(epfd, events, max, timeout_ms) : finish(r);
}

SHUNT_EXPORT int epoll_pwait(int epfd, epoll_event* events, int max, int timeout_ms,
                             const sigset_t* mask) {
  const sockets::Outcome r = epoll_any(epfd, events, max, from_ms(timeout_ms), mask);
  return r == sockets::kPassOn ? libc().epoll_pwait(epfd, events, max, timeout_ms, mask)
                               : finish(r);
}

SHUNT_EXPORT int epoll_pwait2(int epfd, epoll_event* events, int max, const timespec* timeout,
                              const sigset_t* mask) {
  const std::int64_t ns = from_timespec(timeout);
  const sockets::Outcome r = ns == -2 ? sockets::kPassOn : epoll_any(epfd, events, max, ns, mask);
  return r == sockets::kPassOn ? libc().epoll_pwait2(epfd, events, max, timeout, mask) : finish(r);
}
