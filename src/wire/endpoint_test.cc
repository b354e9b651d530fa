#include "wire/endpoint.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>

namespace shunt::wire {
namespace {

sockaddr_in v4(const char* text, std::uint16_t port) {
  sockaddr_in in{};
  in.sin_family = AF_INET;
  in.sin_port = htons(port);
  inet_pton(AF_INET, text, &in.sin_addr);
  return in;
}

sockaddr_in6 v6(const char* text, std::uint16_t port) {
  sockaddr_in6 in6{};
  in6.sin6_family = AF_INET6;
  in6.sin6_port = htons(port);
  inet_pton(AF_INET6, text, &in6.sin6_addr);
  return in6;
}

template <typename T>
Result<Endpoint> from(const T& address, socklen_t length = sizeof(T)) {
  return from_sockaddr(reinterpret_cast<const sockaddr*>(&address), length);
}

TEST(Endpoint, FromIPv4) {
  const Endpoint e = from(v4("10.77.0.2", 6379)).value();
  EXPECT_EQ(e.family, AF_INET);
  EXPECT_EQ(e.port, 6379);
  EXPECT_EQ(e.address, (std::array<std::uint8_t, 16>{10, 77, 0, 2}));
  EXPECT_FALSE(e.is_any());
  EXPECT_FALSE(e.is_loopback());
}

TEST(Endpoint, MappedAddressIsTheSameEndpoint) {
  EXPECT_EQ(from(v6("::ffff:10.77.0.2", 80)).value(), from(v4("10.77.0.2", 80)).value());
  EXPECT_TRUE(from(v6("::ffff:127.0.0.1", 80)).value().is_loopback());
  EXPECT_EQ(from(v6("::ffff:0.0.0.0", 80)).value(), from(v4("0.0.0.0", 80)).value());
  // Not mapped: one bit beside the prefix.
  EXPECT_EQ(from(v6("::fffe:10.77.0.2", 80)).value().family, AF_INET6);
  EXPECT_EQ(from(v6("::10.77.0.2", 80)).value().family, AF_INET6);
}

TEST(Endpoint, AnyAndLoopback) {
  EXPECT_TRUE(from(v4("0.0.0.0", 1)).value().is_any());
  EXPECT_TRUE(from(v6("::", 1)).value().is_any());
  EXPECT_FALSE(from(v6("::", 1)).value().same_address(from(v4("0.0.0.0", 1)).value()));
  EXPECT_TRUE(from(v4("127.0.0.1", 1)).value().is_loopback());
  EXPECT_TRUE(from(v4("127.255.3.9", 1)).value().is_loopback());
  EXPECT_FALSE(from(v4("128.0.0.1", 1)).value().is_loopback());
  EXPECT_TRUE(from(v6("::1", 1)).value().is_loopback());
  EXPECT_FALSE(from(v6("::2", 1)).value().is_loopback());
  EXPECT_FALSE(Endpoint{}.is_loopback());
}

TEST(Endpoint, ErrorsOfFromSockaddr) {
  EXPECT_EQ(from_sockaddr(nullptr, 16).error(), EINVAL);
  EXPECT_EQ(from(v4("1.2.3.4", 1), 1).error(), EINVAL);
  EXPECT_EQ(from(v4("1.2.3.4", 1), sizeof(sockaddr_in) - 1).error(), EINVAL);
  EXPECT_EQ(from(v6("::1", 1), 23).error(), EINVAL);
  EXPECT_TRUE(from(v6("::1", 1), 24).ok()) << "the form without sin6_scope_id";
  sockaddr_storage other{};
  other.ss_family = AF_UNIX;
  EXPECT_EQ(from(other).error(), EAFNOSUPPORT);
}

TEST(Endpoint, ToSockaddrAndBack) {
  sockaddr_storage out;
  const Endpoint e4 = from(v4("10.77.0.2", 6379)).value();
  const sockaddr_in want4 = v4("10.77.0.2", 6379);
  ASSERT_EQ(to_sockaddr(e4, AF_INET, &out), sizeof(sockaddr_in));
  EXPECT_EQ(std::memcmp(&out, &want4, sizeof want4), 0);

  const sockaddr_in6 mapped = v6("::ffff:10.77.0.2", 6379);
  ASSERT_EQ(to_sockaddr(e4, AF_INET6, &out), sizeof(sockaddr_in6));
  EXPECT_EQ(std::memcmp(&out, &mapped, sizeof mapped), 0);
  EXPECT_EQ(from_sockaddr(reinterpret_cast<sockaddr*>(&out), sizeof mapped).value(), e4);

  const sockaddr_in6 want6 = v6("fd00::17", 443);
  const Endpoint e6 = from(want6).value();
  ASSERT_EQ(to_sockaddr(e6, AF_INET6, &out), sizeof(sockaddr_in6));
  EXPECT_EQ(std::memcmp(&out, &want6, sizeof want6), 0);
  EXPECT_EQ(to_sockaddr(e6, AF_INET, &out), 0U) << "an IPv6 address has no IPv4 form";
}

}  // namespace
}  // namespace shunt::wire
