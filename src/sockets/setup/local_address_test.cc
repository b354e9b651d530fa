#include "sockets/setup/local_address.h"

#include "sockets/testing/test_stranger.h"

namespace shunt::sockets {
namespace {

wire::Endpoint endpoint6(const char* address) {
  wire::Endpoint e;
  e.family = AF_INET6;
  EXPECT_EQ(1, inet_pton(AF_INET6, address, e.address.data()));
  return e;
}

TEST(LocalAddress, IsWhatTheKernelDeliversHere) {
  EXPECT_TRUE(is_local(endpoint("127.0.0.1", 0)));
  EXPECT_TRUE(is_local(endpoint("127.9.9.9", 80)));
  EXPECT_TRUE(is_local(endpoint6("::1")));
  const bool made = in_own_namespace([] {
    const auto check = [] {
      EXPECT_TRUE(is_local(endpoint("10.77.0.1", 80)));
      EXPECT_FALSE(is_local(endpoint("10.77.0.2", 80))) << "behind a device";
      EXPECT_FALSE(is_local(endpoint("10.78.0.1", 80))) << "no route";
      EXPECT_FALSE(is_local(endpoint("10.77.0.255", 80))) << "broadcast";
    };
    check();
    EXPECT_TRUE(set_sysctl("net/ipv4/ip_nonlocal_bind", "1"));
    check();
    ASSERT_EQ(0, std::system("ip route add local 10.79.0.0/16 dev lo"));
    EXPECT_TRUE(is_local(endpoint("10.79.3.4", 80))) << "a whole prefix that is local";
    wire::Endpoint source;
    EXPECT_TRUE(source_towards(endpoint("10.77.0.2", 80), &source));
    EXPECT_EQ(endpoint("10.77.0.1", 0), source);
  });
  if (!made) GTEST_SKIP() << "may not make a network namespace here";
}

TEST(LocalAddress, OfIPv6IsToo) {
  const bool made = in_own_namespace([] {
    if (std::system("exec 2>/dev/null; ip addr add fd77::1/64 dev sh0 nodad && ip addr add "
                    "fe80::77/64 dev sh0 nodad "
                    "&& ip addr add fe80::78/64 dev sh1 nodad") != 0) {
      GTEST_SKIP() << "no IPv6 here";
    }
    EXPECT_TRUE(set_sysctl("net/ipv6/ip_nonlocal_bind", "1"));
    EXPECT_TRUE(is_local(endpoint6("fd77::1")));
    EXPECT_FALSE(is_local(endpoint6("fd77::2")));
    EXPECT_FALSE(is_local(endpoint6("fe80::77"))) << "of which interface?";
  });
  if (!made) GTEST_SKIP() << "may not make a network namespace here";
}

}  // namespace
}  // namespace shunt::sockets
