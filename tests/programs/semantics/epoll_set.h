// An epoll set with one tag per entry, for the epoll cases.
#pragma once

#include <gtest/gtest.h>

#include "net.h"

namespace shunt::test {

inline constexpr std::uint64_t kTag = 0xfedcba9876543210U;  // all 64 bits must survive
inline constexpr int kQuietMs = 15;  // long enough to believe that nothing more comes

class Epoll {
 public:
  Epoll() : fd_(epoll_create1(EPOLL_CLOEXEC)) {}
  int control(int operation, int fd, std::uint32_t events, std::uint64_t tag = kTag) {
    epoll_event event{};
    event.events = events;
    event.data.u64 = tag;
    return epoll_ctl(fd_, operation, fd, &event);
  }
  void add(int fd, std::uint32_t events, std::uint64_t tag = kTag) {
    ASSERT_EQ(control(EPOLL_CTL_ADD, fd, events, tag), 0) << strerror(errno);
  }
  void modify(int fd, std::uint32_t events, std::uint64_t tag = kTag) {
    ASSERT_EQ(control(EPOLL_CTL_MOD, fd, events, tag), 0) << strerror(errno);
  }
  // The events of the only ready descriptor; 0 when nothing is ready in time.
  std::uint32_t wait(int timeout_ms = kWaitMs, std::uint64_t tag = kTag) {
    epoll_event event[4]{};
    int n = epoll_wait(fd_, event, 4, timeout_ms);
    // A program that ends while another thread has SIGCHLD blocked (system(), posix_spawn()) interrupts
    // epoll_wait, and only it, although nobody handles the signal.
    while (n < 0 && errno == EINTR) n = epoll_wait(fd_, event, 4, timeout_ms);
    EXPECT_GE(n, 0) << strerror(errno);
    EXPECT_LE(n, 1);
    if (n != 1) return 0;
    EXPECT_EQ(event[0].data.u64, tag);
    return event[0].events;
  }
  int fd() const { return fd_; }

 private:
  Fd fd_;
};

}  // namespace shunt::test
