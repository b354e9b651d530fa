// connect: what it returns and when.
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>

#include "net.h"

namespace shunt::test {
namespace {

int try_connect(int fd, std::uint16_t port) {
  const Address address("127.0.0.1", port);
  return connect(fd, address.get(), address.length);
}

// A port where nobody listens: bound, so that nobody else gets it meanwhile.
Fd silent_port(std::uint16_t* port) {
  Fd fd = tcp_socket();
  const Address any("127.0.0.1", 0);
  EXPECT_EQ(bind(fd, any.get(), any.length), 0);
  *port = port_of(fd);
  return fd;
}

TEST(Connect, ReturnsBeforeAccept) {
  Fd listener = listen_on();
  Fd client = connect_to("127.0.0.1", port_of(listener));  // same thread: must not block
  Fd server = accept_from(listener);
  expect_echo(client, server, "ping");
  expect_echo(server, client, "pong");
}

TEST(Connect, OneBoundPortReachesOneDestinationOnce) {
  Fd listener = listen_on();
  Fd elsewhere = listen_on();
  std::uint16_t port = 0;
  { const Fd finder = silent_port(&port); }
  const auto bound = [port] {
    Fd fd = tcp_socket();
    const int one = 1;
    EXPECT_EQ(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one), 0);
    const Address address("127.0.0.1", port);
    EXPECT_EQ(bind(fd, address.get(), address.length), 0);
    return fd;
  };
  Fd first = bound();
  Fd second = bound();
  ASSERT_EQ(try_connect(first, port_of(listener)), 0);
  EXPECT_EQ(try_connect(second, port_of(listener)), -1);
  EXPECT_EQ(errno, EADDRNOTAVAIL);
  Fd third = bound();
  EXPECT_EQ(try_connect(third, port_of(elsewhere)), 0) << "another destination";
  Fd server = accept_from(listener);
  expect_echo(first, server, "the first one goes on");
}

// Many short ones after another: no two that live have one port, and the server sees each end.
TEST(Connect, ShortConnectionsOneAfterAnother) {
  Fd listener = listen_on();
  const std::uint16_t port = port_of(listener);
  for (int i = 0; i < 300; ++i) {
    Fd client = connect_to("127.0.0.1", port);
    Fd server = accept_from(listener);
    expect_echo(client, server, "there");
    expect_echo(server, client, "back");
    Fd other = connect_to("127.0.0.1", port);
    ASSERT_NE(port_of(client), port_of(other));
    Fd other_server = accept_from(listener);
    // Both orders of closing.
    (i % 2 == 0 ? client : server).reset();
    expect_eof(i % 2 == 0 ? server : client);
    expect_echo(other, other_server, "the other one goes on");
  }
}

TEST(Connect, AcceptWaitsForConnect) {
  Fd listener = listen_on();
  const std::uint16_t port = port_of(listener);
  Fd client;
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    client = connect_to("127.0.0.1", port);
  });
  Fd server = accept_from(listener);
  later.join();
  expect_echo(client, server, "x");
}

TEST(Connect, NonBlockingIsInProgressThenDone) {
  Fd listener = listen_on();
  Fd client = tcp_socket(AF_INET, SOCK_NONBLOCK);
  ASSERT_EQ(try_connect(client, port_of(listener)), -1);
  EXPECT_EQ(errno, EINPROGRESS);
  EXPECT_EQ(wait_for(client, POLLOUT), POLLOUT);
  EXPECT_EQ(so_error(client), 0);
  EXPECT_EQ(try_connect(client, port_of(listener)), 0);  // Linux: the first one after it says done
  EXPECT_EQ(try_connect(client, port_of(listener)), -1);
  EXPECT_EQ(errno, EISCONN);
  Fd server = accept_from(listener);
  expect_echo(client, server, "after");
  expect_echo(server, client, "back");
}

TEST(Connect, SecondTimeIsConnected) {
  Fd listener = listen_on();
  Fd client = connect_to("127.0.0.1", port_of(listener));
  EXPECT_EQ(try_connect(client, port_of(listener)), -1);
  EXPECT_EQ(errno, EISCONN);
  Fd server = accept_from(listener);
  expect_echo(client, server, "still fine");
}

TEST(Connect, AcceptedSocketIsConnected) {
  Pair p = connected_pair();
  EXPECT_EQ(try_connect(p.server, 1), -1);
  EXPECT_EQ(errno, EISCONN);
  EXPECT_EQ(listen(p.server, 1), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(listen(p.client, 1), -1);
  EXPECT_EQ(errno, EINVAL);
}

TEST(Connect, Refused) {
  std::uint16_t port = 0;
  Fd silent = silent_port(&port);
  Fd client = tcp_socket();
  EXPECT_EQ(try_connect(client, port), -1);
  EXPECT_EQ(errno, ECONNREFUSED);
}

TEST(Connect, RefusedNonBlocking) {
  std::uint16_t port = 0;
  Fd silent = silent_port(&port);
  Fd client = tcp_socket(AF_INET, SOCK_NONBLOCK);
  if (try_connect(client, port) == 0) FAIL() << "connected to nobody";
  if (errno == ECONNREFUSED) return;
  EXPECT_EQ(errno, EINPROGRESS);
  EXPECT_EQ(wait_for(client, POLLOUT) & (POLLOUT | POLLERR | POLLHUP), POLLOUT | POLLERR | POLLHUP);
  EXPECT_EQ(so_error(client), ECONNREFUSED);
  EXPECT_EQ(so_error(client), 0);
}

TEST(Connect, AgainAfterRefusal) {
  std::uint16_t port = 0;
  Fd silent = silent_port(&port);
  Fd listener = listen_on();
  Fd client = tcp_socket();
  EXPECT_EQ(try_connect(client, port), -1);
  ASSERT_EQ(try_connect(client, port_of(listener)), 0) << strerror(errno);
  Fd server = accept_from(listener);
  expect_echo(client, server, "second try");
}

TEST(Connect, BadAddresses) {
  Fd listener = listen_on();
  const Address address("127.0.0.1", port_of(listener));
  Fd client = tcp_socket();
  EXPECT_EQ(connect(client, address.get(), 7), -1);
  EXPECT_EQ(errno, EINVAL);
  const Address v6("::1", port_of(listener));
  EXPECT_EQ(connect(client, v6.get(), v6.length), -1);
  EXPECT_EQ(errno, EAFNOSUPPORT);
  ASSERT_EQ(connect(client, address.get(), address.length), 0);
  Fd server = accept_from(listener);
  expect_echo(client, server, "fine");
}

// A listener whose queue is full: a further blocking connect() waits until somebody accepts.
struct FullListener {
  Fd listener = tcp_socket();
  std::vector<Fd> waiting;
  FullListener() {
    const Address any("127.0.0.1", 0);
    EXPECT_EQ(bind(listener, any.get(), any.length), 0);
    EXPECT_EQ(listen(listener, 1), 0);
    for (int i = 0; i < 200; ++i) {
      waiting.push_back(tcp_socket(AF_INET, SOCK_NONBLOCK));
      try_connect(waiting.back(), port_of(listener));
    }
  }
  // Until `done`, so that whoever waits gets his turn.
  void accept_until(const std::atomic<bool>& done) {
    set_nonblocking(listener, true);
    while (!done) {
      if (Fd accepted(accept(listener, nullptr, nullptr)); accepted < 0) std::this_thread::yield();
    }
  }
};

bool sleeps(int tid) {
  std::ifstream status("/proc/self/task/" + std::to_string(tid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("State:", 0) == 0) return line.find("sleeping") != std::string::npos;
  }
  return false;
}

TEST(Connect, AnotherThreadsAttemptIsToldAndShared) {
  FullListener full;
  Fd client = tcp_socket();
  std::atomic<int> tid{0};
  std::atomic<bool> done{false};
  int first = -1;
  std::thread thread([&] {
    tid = gettid();
    first = try_connect(client, port_of(full.listener));
    done = true;
  });
  while (tid == 0 || !sleeps(tid)) std::this_thread::yield();
  set_nonblocking(client, true);
  EXPECT_EQ(try_connect(client, port_of(full.listener)), -1);
  EXPECT_EQ(errno, EALREADY);
  EXPECT_EQ(listen(client, 1), -1);
  EXPECT_EQ(errno, EINVAL);
  set_nonblocking(client, false);
  EXPECT_FALSE(done);
  full.accept_until(done);
  thread.join();
  EXPECT_EQ(first, 0);
}

TEST(Connect, FromABoundPort) {
  Fd listener = listen_on();
  Fd client = tcp_socket();
  const Address any("127.0.0.1", 0);
  ASSERT_EQ(bind(client, any.get(), any.length), 0);
  const std::string bound = local_address(client).text();
  ASSERT_EQ(try_connect(client, port_of(listener)), 0);
  EXPECT_EQ(local_address(client).text(), bound);
  Fd server = accept_from(listener);
  EXPECT_EQ(peer_address(server).text(), bound);
}

TEST(Connect, LocalPortIsReserved) {
  Pair p = connected_pair();
  Fd other = tcp_socket();
  const Address same("127.0.0.1", port_of(p.client));
  EXPECT_EQ(bind(other, same.get(), same.length), -1);
  EXPECT_EQ(errno, EADDRINUSE);
}

TEST(Connect, ToTheWildcardAddress) {
  Fd listener = listen_on("0.0.0.0");
  Fd client = connect_to("0.0.0.0", port_of(listener));
  Fd server = accept_from(listener);
  expect_echo(client, server, "wildcard");
  EXPECT_EQ(peer_address(client).text(), "127.0.0.1:" + std::to_string(port_of(listener)));
}

TEST(Connect, WildcardListenerAnotherLoopbackAddress) {
  Fd listener = listen_on("0.0.0.0");
  Fd client = connect_to("127.0.0.2", port_of(listener));
  Fd server = accept_from(listener);
  EXPECT_EQ(local_address(server).text(), "127.0.0.2:" + std::to_string(port_of(listener)));
  EXPECT_EQ(peer_address(server).text(), local_address(client).text());
  expect_echo(client, server, "127.0.0.2");
}

TEST(Connect, ListenerOnOneAddressOnly) {
  Fd listener = listen_on("127.0.0.1");
  Fd client = tcp_socket();
  const Address other("127.0.0.3", port_of(listener));
  EXPECT_EQ(connect(client, other.get(), other.length), -1);
  EXPECT_EQ(errno, ECONNREFUSED);
}

}  // namespace
}  // namespace shunt::test
