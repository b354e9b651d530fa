// listen and accept: pending connections, flags, several threads.
#include <gtest/gtest.h>

#include <set>

#include "net.h"

namespace shunt::test {
namespace {

int try_connect(int fd, std::uint16_t port) {
  const Address address("127.0.0.1", port);
  return connect(fd, address.get(), address.length);
}

TEST(Listen, ManyPendingInOrder) {
  Fd listener = listen_on();
  std::vector<Fd> clients;
  std::vector<Fd> servers;
  for (int i = 0; i < 64; ++i) {
    clients.push_back(connect_to("127.0.0.1", port_of(listener)));
    send_all(clients.back(), std::to_string(i) + "\n");
  }
  std::set<std::string> peers;
  for (int i = 0; i < 64; ++i) {
    servers.push_back(accept_from(listener));
    peers.insert(peer_address(servers.back()).text());
    const std::string expected = std::to_string(i) + "\n";
    EXPECT_EQ(recv_exact(servers.back(), expected.size()), expected);
  }
  EXPECT_EQ(peers.size(), 64U);
}

TEST(Listen, ClientGoneBeforeAccept) {
  Fd listener = listen_on();
  {
    Fd client = connect_to("127.0.0.1", port_of(listener));
    send_all(client, "last words");
  }
  Fd server = accept_from(listener);
  EXPECT_EQ(recv_to_eof(server), "last words");
}

TEST(Listen, ClosingResetsPending) {
  Fd listener = listen_on();
  Fd client = connect_to("127.0.0.1", port_of(listener));
  listener.reset();
  char byte;
  EXPECT_NE(wait_for(client, POLLIN), 0);
  EXPECT_EQ(recv(client, &byte, 1, 0), -1);
  EXPECT_EQ(errno, ECONNRESET);
}

TEST(Listen, ClosedMeansRefused) {
  Fd listener = listen_on();
  const std::uint16_t port = port_of(listener);
  Pair p{connect_to("127.0.0.1", port), accept_from(listener)};
  listener.reset();
  Fd client = tcp_socket();
  EXPECT_EQ(try_connect(client, port), -1);
  EXPECT_EQ(errno, ECONNREFUSED);
  expect_echo(p.client, p.server, "the accepted one lives on");
}

TEST(Listen, SamePortAgain) {
  Fd listener = listen_on();
  const Address address = local_address(listener);
  Pair p{connect_to("127.0.0.1", address.port()), accept_from(listener)};
  listener.reset();
  Fd again = tcp_socket();
  int one = 1;
  setsockopt(again, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  ASSERT_EQ(bind(again, address.get(), address.length), 0) << strerror(errno);
  ASSERT_EQ(listen(again, 8), 0);
  Pair q{connect_to("127.0.0.1", address.port()), accept_from(again)};
  expect_echo(q.client, q.server, "second listener");
  expect_echo(p.client, p.server, "first listener's connection");
}

TEST(Listen, TwiceChangesBacklogOnly) {
  Fd listener = listen_on();
  EXPECT_EQ(listen(listener, 16), 0);
  Fd client = connect_to("127.0.0.1", port_of(listener));
  Fd server = accept_from(listener);
  expect_echo(client, server, "x");
}

TEST(Listen, WithoutBindGetsAPort) {
  Fd listener = tcp_socket();
  ASSERT_EQ(listen(listener, 8), 0);
  EXPECT_NE(port_of(listener), 0);
  Fd client = connect_to("127.0.0.1", port_of(listener));
  Fd server = accept_from(listener);
  expect_echo(client, server, "x");
}

TEST(Accept, NonBlockingListener) {
  Fd listener = listen_on();
  set_nonblocking(listener);
  EXPECT_EQ(accept(listener, nullptr, nullptr), -1);
  EXPECT_EQ(errno, EAGAIN);
  Fd client = connect_to("127.0.0.1", port_of(listener));
  EXPECT_EQ(wait_for(listener, POLLIN), POLLIN);
  Fd server(accept(listener, nullptr, nullptr));
  ASSERT_GE(server, 0);
  EXPECT_EQ(fcntl(server, F_GETFL) & O_NONBLOCK, 0) << "O_NONBLOCK is not inherited on Linux";
  EXPECT_EQ(accept(listener, nullptr, nullptr), -1);
  EXPECT_EQ(errno, EAGAIN);
}

TEST(Accept, Flags) {
  Fd listener = listen_on();
  Fd c1 = connect_to("127.0.0.1", port_of(listener));
  Fd c2 = connect_to("127.0.0.1", port_of(listener));
  Fd s1(accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  EXPECT_NE(fcntl(s1, F_GETFL) & O_NONBLOCK, 0);
  EXPECT_EQ(fcntl(s1, F_GETFD), FD_CLOEXEC);
  Fd s2(accept4(listener, nullptr, nullptr, 0));
  EXPECT_EQ(fcntl(s2, F_GETFL) & O_NONBLOCK, 0);
  EXPECT_EQ(fcntl(s2, F_GETFD), 0);
  char byte;
  EXPECT_EQ(recv(s1, &byte, 1, 0), -1);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_EQ(accept4(listener, nullptr, nullptr, 0x7), -1);
  EXPECT_EQ(errno, EINVAL);
}

TEST(Accept, AddressIsFilledAndCut) {
  Fd listener = listen_on();
  Fd client = connect_to("127.0.0.1", port_of(listener));
  Fd client2 = connect_to("127.0.0.1", port_of(listener));
  Address peer;
  Fd server(accept(listener, peer.get(), &peer.length));
  EXPECT_EQ(peer.length, sizeof(sockaddr_in));
  EXPECT_EQ(peer.text(), local_address(client).text());
  Address cut;
  cut.length = 4;  // family and port
  Fd server2(accept4(listener, cut.get(), &cut.length, 0));
  EXPECT_EQ(cut.length, sizeof(sockaddr_in));
  EXPECT_EQ(cut.text(), "0.0.0.0:" + std::to_string(port_of(client2)));
}

TEST(Accept, OnlyOnListeners) {
  Pair p = connected_pair();
  EXPECT_EQ(accept(p.client, nullptr, nullptr), -1);
  EXPECT_EQ(errno, EINVAL);
  Fd fresh = tcp_socket();
  EXPECT_EQ(accept(fresh, nullptr, nullptr), -1);
  EXPECT_EQ(errno, EINVAL);
}

TEST(Accept, TimesOut) {
  Fd listener = listen_on();
  set_timeout(listener, SO_RCVTIMEO, 60);
  Stopwatch watch;
  EXPECT_EQ(accept(listener, nullptr, nullptr), -1);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_GE(watch.ms(), 50);
}

TEST(Accept, TwoThreadsShareTheWork) {
  Fd listener = listen_on();
  std::vector<Fd> got[2];
  auto work = [&](int i) {
    for (int k = 0; k < 20; ++k) got[i].push_back(accept_from(listener));
  };
  std::thread a(work, 0);
  std::thread b(work, 1);
  std::vector<Fd> clients;
  for (int i = 0; i < 40; ++i) clients.push_back(connect_to("127.0.0.1", port_of(listener)));
  a.join();
  b.join();
  std::set<std::string> peers;
  for (auto& v : got)
    for (auto& fd : v) peers.insert(peer_address(fd).text());
  EXPECT_EQ(peers.size(), 40U);
}

TEST(Accept, ShutdownWakesIt) {
  Fd listener = listen_on();
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    shutdown(listener, SHUT_RDWR);
  });
  EXPECT_EQ(accept(listener, nullptr, nullptr), -1);
  EXPECT_EQ(errno, EINVAL);
  later.join();
}

}  // namespace
}  // namespace shunt::test
