// What the tests of plain sockets share: a labelled AF_UNIX pair, as a downgrade leaves it.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sockets/downgrade/label.h"
#include "sockets/process/socket.h"

namespace shunt::sockets {

inline wire::Endpoint ipv4(const char* text, std::uint16_t port) {
  wire::Endpoint e;
  e.family = AF_INET;
  e.port = port;
  EXPECT_EQ(1, inet_pton(AF_INET, text, e.address.data()));
  return e;
}

inline wire::Endpoint ipv6(const char* text, std::uint16_t port) {
  wire::Endpoint e;
  e.family = AF_INET6;
  e.port = port;
  EXPECT_EQ(1, inet_pton(AF_INET6, text, e.address.data()));
  return e;
}

inline const Label kLabel{ipv4("10.77.0.1", 40'000), ipv4("10.77.0.2", 6379), AF_INET};

struct Pair {
  int fds[2];
  explicit Pair(int type = SOCK_STREAM) { EXPECT_EQ(0, ::socketpair(AF_UNIX, type, 0, fds)); }
  ~Pair() {
    close_ours(fds[0]);
    close_ours(fds[1]);
  }
  static void close_ours(int fd) {
    if (fd < 0) return;
    if (Socket* s = take_out(fd)) drop_reference(s);
    ::close(fd);
  }
  void close(int end) {
    close_ours(fds[end]);
    fds[end] = -1;
  }
};

inline Socket* plain(int fd) {
  Socket* s = lookup(fd);
  return s != nullptr && s->kind.load() == Kind::kPlain ? s : nullptr;
}

}  // namespace shunt::sockets
