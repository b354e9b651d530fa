#include "driver/core/poller.h"

#include <array>
#include <cassert>
#include <cerrno>
#include <system_error>

namespace shunt::driver {
namespace {

constexpr int kEventsAtOnce = 64;

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

}  // namespace

Poller::Poller() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
  if (!epoll_) fail("epoll_create1");
}

Poller::Token Poller::add(int fd, std::uint32_t events, Callback callback) {
  assert(fd >= 0 && callback);
  epoll_event event{};
  event.events = events;
  event.data.u64 = next_;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) fail("epoll_ctl");
  watches_.emplace(next_, Watch{fd, std::make_shared<Callback>(std::move(callback))});
  return next_++;
}

void Poller::modify(Token token, std::uint32_t events) {
  assert(watches_.contains(token));
  epoll_event event{};
  event.events = events;
  event.data.u64 = token;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, watches_.at(token).fd, &event) != 0) {
    fail("epoll_ctl");
  }
}

void Poller::remove(Token token) {
  const auto found = watches_.find(token);
  if (found == watches_.end()) return;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, found->second.fd, nullptr);
  watches_.erase(found);
}

int Poller::wait(std::chrono::microseconds limit) {
  timespec time{};
  time.tv_sec = limit.count() / 1000000;
  time.tv_nsec = limit.count() % 1000000 * 1000;
  std::array<epoll_event, kEventsAtOnce> events;
  const int count = ::epoll_pwait2(epoll_.get(), events.data(), kEventsAtOnce,
                                   limit == kForever ? nullptr : &time, nullptr);
  const int error = errno;
  if (first_) first_();
  if (count < 0) {
    errno = error;
    if (errno == EINTR) return 0;
    fail("epoll_pwait2");
  }
  for (int i = 0; i < count; ++i) {
    const auto found = watches_.find(events[static_cast<std::size_t>(i)].data.u64);
    if (found == watches_.end()) continue;
    const std::shared_ptr<Callback> callback = found->second.callback;  // survives its removal
    (*callback)(events[static_cast<std::size_t>(i)].events);
  }
  return count;
}

}  // namespace shunt::driver
