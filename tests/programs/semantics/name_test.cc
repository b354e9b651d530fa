// getsockname and getpeername of all ends, IPv6, dual stack.
#include <gtest/gtest.h>

#include "net.h"

namespace shunt::test {
namespace {

class Names : public ::testing::TestWithParam<const char*> {};

TEST_P(Names, FourEndsAgree) {
  Fd listener = listen_on(GetParam());
  const std::uint16_t port = port_of(listener);
  Fd client = connect_to(GetParam(), port);
  Address accepted;
  Fd server(accept(listener, accepted.get(), &accepted.length));
  EXPECT_EQ(peer_address(client).port(), port);
  EXPECT_EQ(peer_address(client).text(), local_address(server).text());
  EXPECT_EQ(peer_address(server).text(), local_address(client).text());
  EXPECT_EQ(accepted.text(), local_address(client).text());
  EXPECT_NE(local_address(client).port(), 0);
  EXPECT_NE(local_address(client).port(), port);
  EXPECT_EQ(local_address(listener).port(), port);
  expect_echo(client, server, pattern(10'000));
  expect_echo(server, client, pattern(10'000));
}

INSTANTIATE_TEST_SUITE_P(Families, Names, ::testing::Values("127.0.0.1", "::1"),
                         [](const auto& ip) {
                           return std::strchr(ip.param, ':') != nullptr ? "IPv6" : "IPv4";
                         });

TEST(Names, DualStackListener) {
  Fd listener = listen_on("::");
  const std::uint16_t port = port_of(listener);
  Fd client = connect_to("127.0.0.1", port);
  Fd server = accept_from(listener);
  EXPECT_EQ(peer_address(server).text(), "[::ffff:127.0.0.1]:" + std::to_string(port_of(client)));
  EXPECT_EQ(local_address(server).text(), "[::ffff:127.0.0.1]:" + std::to_string(port));
  EXPECT_EQ(peer_address(client).text(), "127.0.0.1:" + std::to_string(port));
  expect_echo(client, server, "four");
  Fd client6 = connect_to("::1", port);
  Fd server6 = accept_from(listener);
  EXPECT_EQ(peer_address(server6).text(), local_address(client6).text());
  expect_echo(client6, server6, "six");
}

TEST(Names, MappedDestination) {
  Fd listener = listen_on("127.0.0.1");
  Fd client = connect_to("::ffff:127.0.0.1", port_of(listener));
  Fd server = accept_from(listener);
  EXPECT_EQ(peer_address(server).text(), "127.0.0.1:" + std::to_string(port_of(client)));
  EXPECT_EQ(local_address(client).text(), "[::ffff:127.0.0.1]:" + std::to_string(port_of(client)));
  expect_echo(client, server, "mapped");
}

TEST(Names, V6OnlyListener) {
  Fd listener = tcp_socket(AF_INET6);
  const int on = 1;
  ASSERT_EQ(setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on), 0);
  const Address any("::", 0);
  ASSERT_EQ(bind(listener, any.get(), any.length), 0);
  ASSERT_EQ(listen(listener, 8), 0);
  Fd client = tcp_socket();
  const Address v4("127.0.0.1", port_of(listener));
  EXPECT_EQ(connect(client, v4.get(), v4.length), -1);
  EXPECT_EQ(errno, ECONNREFUSED);
  Fd client6 = connect_to("::1", port_of(listener));
  Fd server6 = accept_from(listener);
  expect_echo(client6, server6, "x");
}

TEST(Names, BufferIsCut) {
  Pair p = connected_pair();
  Address cut;
  cut.length = 2;
  EXPECT_EQ(getsockname(p.client, cut.get(), &cut.length), 0);
  EXPECT_EQ(cut.length, sizeof(sockaddr_in));
  EXPECT_EQ(cut.port(), 0);
  EXPECT_EQ(cut.storage.ss_family, AF_INET);
}

}  // namespace
}  // namespace shunt::test
