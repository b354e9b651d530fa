// For tests: two ends of a shunted connection in one process, and the same over kernel TCP.
#pragma once

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ring/writer.h"
#include "sockets/connection/areas.h"
#include "sockets/connection/carriage.h"
#include "sockets/connection/connection.h"
#include "sockets/options/options.h"
#include "sockets/process/socket.h"

namespace shunt::sockets {

inline sockaddr_storage loopback_address(int family, socklen_t* length) {
  sockaddr_storage storage{};
  if (family == AF_INET6) {
    auto* in6 = reinterpret_cast<sockaddr_in6*>(&storage);
    in6->sin6_family = AF_INET6;
    in6->sin6_addr = in6addr_loopback;
    *length = sizeof *in6;
  } else {
    auto* in = reinterpret_cast<sockaddr_in*>(&storage);
    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *length = sizeof *in;
  }
  return storage;
}

// Kernel TCP over the loopback device: what a shunted connection is compared with.
struct TcpPair {
  int listener;
  int client;
  int accepted = -1;

  explicit TcpPair(int family)
      : listener(::socket(family, SOCK_STREAM, 0)), client(::socket(family, SOCK_STREAM, 0)) {
    socklen_t length;
    const sockaddr_storage address = loopback_address(family, &length);
    EXPECT_EQ(0, ::bind(listener, reinterpret_cast<const sockaddr*>(&address), length));
    EXPECT_EQ(0, ::listen(listener, 1));
  }
  void connect() {
    sockaddr_storage address;
    socklen_t length = sizeof address;
    ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length);
    EXPECT_EQ(0, ::connect(client, reinterpret_cast<const sockaddr*>(&address), length));
    accepted = ::accept(listener, nullptr, nullptr);
    EXPECT_GE(accepted, 0);
  }
  ~TcpPair() {
    ::close(listener);
    ::close(client);
    if (accepted >= 0) ::close(accepted);
  }
};

struct TestEnd {
  int fd = -1;
  Socket* socket = nullptr;
  std::uint32_t generation = 0;
  int area_fd = -1;

  Connection* connection() const { return socket->connection; }
};

// Both ends as they are after CONNECTED.
struct ShuntedPair {
  TestEnd a;
  TestEnd b;

  explicit ShuntedPair(int family = AF_INET) {
    int bells[2];
    EXPECT_EQ(0, ::socketpair(AF_UNIX, SOCK_STREAM, 0, bells));
    open(&a, bells[0], family);
    open(&b, bells[1], family);
    join(a, b);
    join(b, a);
  }
  ~ShuntedPair() {
    close(a);
    close(b);
  }

 private:
  static void open(TestEnd* end, int bell, int family) {
    end->fd = bell;
    Connection* c = allocate_connection();
    ASSERT_NE(nullptr, c);
    c->use_own(make_area(&end->generation, &end->area_fd));
    ASSERT_NE(nullptr, c->own);
    end->socket = enter(bell, Kind::kConnection, static_cast<std::uint16_t>(family));
    ASSERT_NE(nullptr, end->socket);
    end->socket->connection = c;
    c->write_end().set_limit(layout::kStreamBytes);
  }
  static void join(const TestEnd& end, const TestEnd& other) {
    Connection* c = end.connection();
    c->reader.generation = other.generation;
    connected(c, map_area(other.area_fd, 0, layout::kAreaBytes, other.generation));
    ASSERT_NE(nullptr, c->peer.load());
    ::close(other.area_fd);
  }
  static void close(const TestEnd& end) {
    drop_reference(take_out(end.fd));
    ::close(end.fd);
  }
};

}  // namespace shunt::sockets
