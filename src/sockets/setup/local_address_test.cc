#include "sockets/setup/local_address.h"

#include "sockets/testing/test_stranger.h"

namespace shunt::sockets {
namespace {

TEST(LocalAddress, IsWhatTheKernelDeliversHere) {
  EXPECT_TRUE(is_local(ipv4("127.0.0.1", 0)));
  EXPECT_TRUE(is_local(ipv4("127.9.9.9", 80)));
  EXPECT_TRUE(is_local(ipv6("::1", 0)));
  const bool made = in_own_namespace([] {
    const auto check = [] {
      EXPECT_TRUE(is_local(ipv4("10.77.0.1", 80)));
      EXPECT_FALSE(is_local(ipv4("10.77.0.2", 80))) << "behind a device";
      EXPECT_FALSE(is_local(ipv4("10.78.0.1", 80))) << "no route";
      EXPECT_FALSE(is_local(ipv4("10.77.0.255", 80))) << "broadcast";
    };
    check();
    EXPECT_TRUE(set_sysctl("net/ipv4/ip_nonlocal_bind", "1"));
    check();
    ASSERT_EQ(0, std::system("ip route add local 10.79.0.0/16 dev lo"));
    EXPECT_TRUE(is_local(ipv4("10.79.3.4", 80))) << "a whole prefix that is local";
    wire::Endpoint source;
    EXPECT_TRUE(source_towards(ipv4("10.77.0.2", 80), &source));
    EXPECT_EQ(ipv4("10.77.0.1", 0), source);
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
    EXPECT_TRUE(is_local(ipv6("fd77::1", 0)));
    EXPECT_FALSE(is_local(ipv6("fd77::2", 0)));
    EXPECT_FALSE(is_local(ipv6("fe80::77", 0))) << "of which interface?";
  });
  if (!made) GTEST_SKIP() << "may not make a network namespace here";
}

}  // namespace
}  // namespace shunt::sockets
