// Descriptors whose last close waits as long as their sender likes.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <span>
#include <vector>

#include "driver/support_test.h"

namespace shunt::driver {

// A TCP socket that lingers, with bytes that its peer never reads.
class SlowToClose {
 public:
  SlowToClose() : listener_(tcp_socket("127.0.0.1")) {
    EXPECT_EQ(0, ::listen(listener_.get(), 1));
    sockaddr_storage address;
    const socklen_t length =
        wire::to_sockaddr(endpoint("127.0.0.1", port_of(listener_.get())), AF_INET, &address);
    socket.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(0, ::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), length));
    peer_.reset(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const std::vector<char> bytes(1 << 16);
    while (::send(socket.get(), bytes.data(), bytes.size(), MSG_DONTWAIT) > 0) {
    }
    const linger long_time{1, 100000};
    EXPECT_EQ(0, ::setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &long_time, sizeof long_time));
  }
  ~SlowToClose() {
    peer_.reset();  // a reset ends all waiting
    socket.reset();
  }
  SlowToClose(const SlowToClose&) = delete;
  SlowToClose& operator=(const SlowToClose&) = delete;
  // Only what is under way holds it now.
  void sent() { socket.reset(); }

  window::UniqueFd socket;

 private:
  window::UniqueFd listener_;
  window::UniqueFd peer_;
};

// Any number of them, where send_with_fds() has a limit.
inline void send_many(int socket, std::span<const std::uint8_t> bytes, std::span<const int> fds) {
  iovec iov{const_cast<std::uint8_t*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * 253)> control{};
  msghdr m{};
  m.msg_iov = &iov;
  m.msg_iovlen = 1;
  m.msg_control = control.data();
  m.msg_controllen = CMSG_SPACE(fds.size_bytes());
  cmsghdr* c = CMSG_FIRSTHDR(&m);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(fds.size_bytes());
  std::memcpy(CMSG_DATA(c), fds.data(), fds.size_bytes());
  EXPECT_EQ(static_cast<ssize_t>(bytes.size()), ::sendmsg(socket, &m, MSG_NOSIGNAL));
}

}  // namespace shunt::driver
