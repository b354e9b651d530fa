// Programs with and without the provider talk to each other. Natively both are the same; under
// Shunt the helper runs without the provider, so these connections are ordinary TCP: run them
// without `--require`.
#include <gtest/gtest.h>

#include "net.h"

namespace shunt::test {
namespace {

TEST(Interop, OrdinaryClient) {
  Fd listener = listen_on();
  Program client({self_path(), "--helper=echo-client", std::to_string(port_of(listener)), "100000"},
                 true);
  Address peer;
  Fd server(accept(listener, peer.get(), &peer.length));
  EXPECT_EQ(peer_address(server).text(), peer.text());
  const std::string data = recv_to_eof(server);
  EXPECT_EQ(data.size(), 100'000U);
  send_all(server, data);
  server.reset();
  EXPECT_EQ(client.wait(), 0);
}

TEST(Interop, OrdinaryServer) {
  Program server({self_path(), "--helper=echo-server"}, true);
  const auto port = static_cast<std::uint16_t>(std::stoi(server.read_line()));
  Fd client = connect_to("127.0.0.1", port);
  EXPECT_EQ(peer_address(client).port(), port);
  const std::string data = pattern(60'000);
  send_all(client, data);
  shutdown(client, SHUT_WR);
  EXPECT_TRUE(recv_to_eof(client) == data);
  EXPECT_EQ(server.wait(), 0);
}

TEST(Interop, OrdinaryServerNonBlockingClient) {
  Program server({self_path(), "--helper=echo-server"}, true);
  const Address address("127.0.0.1", static_cast<std::uint16_t>(std::stoi(server.read_line())));
  Fd client = tcp_socket(AF_INET, SOCK_NONBLOCK);
  EXPECT_EQ(connect(client, address.get(), address.length), -1);
  EXPECT_EQ(errno, EINPROGRESS);
  EXPECT_EQ(wait_for(client, POLLOUT), POLLOUT);
  send_all(client, "hello");
  shutdown(client, SHUT_WR);
  EXPECT_EQ(recv_to_eof(client), "hello");
}

TEST(Interop, BothKindsAtOneListener) {
  Fd listener = listen_on();
  const std::uint16_t port = port_of(listener);
  set_nonblocking(listener);
  Program ordinary({self_path(), "--helper=echo-client", std::to_string(port), "500"}, true);
  Fd ours = connect_to("127.0.0.1", port);
  send_all(ours, "ours");
  shutdown(ours, SHUT_WR);
  int served = 0;
  while (served < 2) {
    ASSERT_EQ(wait_for(listener, POLLIN), POLLIN);
    Fd server(accept(listener, nullptr, nullptr));
    if (server < 0) continue;
    send_all(server, recv_to_eof(server));
    ++served;
  }
  EXPECT_EQ(recv_to_eof(ours), "ours");
  EXPECT_EQ(ordinary.wait(), 0);
}

TEST(Interop, BothKindsInOneEpoll) {
  Fd listener = listen_on();
  const std::uint16_t port = port_of(listener);
  Program ordinary({self_path(), "--helper=echo-client", std::to_string(port), "500"}, true);
  Fd first = accept_from(listener);
  Fd ours = connect_to("127.0.0.1", port);
  Fd second = accept_from(listener);
  Fd ep(epoll_create1(EPOLL_CLOEXEC));
  for (int fd : {int{first}, int{second}}) {
    epoll_event event{EPOLLIN, {}};
    event.data.fd = fd;
    ASSERT_EQ(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event), 0);
  }
  send_all(ours, "ours");
  int seen = 0;
  Stopwatch watch;
  while (seen != 3 && watch.ms() < kWaitMs) {
    epoll_event events[2];
    const int n = epoll_wait(ep, events, 2, kWaitMs);
    for (int i = 0; i < n; ++i) seen |= events[i].data.fd == first ? 1 : 2;
  }
  EXPECT_EQ(seen, 3);
  send_all(first, recv_to_eof(first));
  first.reset();
  EXPECT_EQ(ordinary.wait(), 0);
}

}  // namespace
}  // namespace shunt::test
