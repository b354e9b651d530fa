#include "wire/rendezvous_name.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <set>
#include <string>
#include <string_view>

#include "wire/reason.h"

namespace shunt::wire {
namespace {

Endpoint at(const char* text, std::uint16_t port) {
  Endpoint e;
  e.port = port;
  e.family = std::string_view(text).find(':') == std::string_view::npos ? AF_INET : AF_INET6;
  inet_pton(e.family, text, e.address.data());
  return e;
}

std::string text(const UnixName& name) {
  EXPECT_EQ(name.address.sun_family, AF_UNIX);
  EXPECT_EQ(name.address.sun_path[0], '\0') << "abstract";
  return {name.address.sun_path + 1, name.length - offsetof(sockaddr_un, sun_path) - 1};
}

TEST(RendezvousName, Golden) {
  EXPECT_EQ(text(rendezvous_name(at("10.77.0.2", 6379), false)), "shunt/4.3/4/0a4d0002:6379");
  EXPECT_EQ(text(rendezvous_name(at("0.0.0.0", 1), false)), "shunt/4.3/4/00000000:1");
  EXPECT_EQ(text(rendezvous_name(at("fd00::17", 65535), true)),
            "shunt/4.3/6/fd000000000000000000000000000017:65535");
  EXPECT_EQ(text(rendezvous_name(at("::", 80), false)),
            "shunt/4.3/6/00000000000000000000000000000000:80");
  EXPECT_EQ(text(rendezvous_name(at("::", 80), true)), "shunt/4.3/*/:80");
}

TEST(RendezvousName, CandidatesMostSpecificFirst) {
  UnixName out[3];
  ASSERT_EQ(rendezvous_candidates(at("10.77.0.2", 80), out), 3);
  EXPECT_EQ(text(out[0]), "shunt/4.3/4/0a4d0002:80");
  EXPECT_EQ(text(out[1]), "shunt/4.3/4/00000000:80");
  EXPECT_EQ(text(out[2]), "shunt/4.3/*/:80");
  ASSERT_EQ(rendezvous_candidates(at("::1", 80), out), 3);
  EXPECT_EQ(text(out[0]), "shunt/4.3/6/00000000000000000000000000000001:80");
  EXPECT_EQ(text(out[1]), "shunt/4.3/6/00000000000000000000000000000000:80");
  EXPECT_EQ(text(out[2]), "shunt/4.3/*/:80");
  ASSERT_EQ(rendezvous_candidates(at("0.0.0.0", 80), out), 2);
  EXPECT_EQ(text(out[0]), "shunt/4.3/4/00000000:80");
  EXPECT_EQ(text(out[1]), "shunt/4.3/*/:80");
}

// What a connecting side tries and what a listening side answers to must be the same relation.
TEST(RendezvousName, CandidatesAgreeWithMatches) {
  const Endpoint ends[] = {at("10.77.0.2", 80), at("10.77.0.3", 80), at("127.0.0.1", 80),
                           at("0.0.0.0", 80),   at("::", 80),        at("::1", 80),
                           at("fd00::2", 80),   at("10.77.0.2", 81), at("::", 81)};
  for (const Endpoint& local : ends) {
    for (const bool dual : {false, true}) {
      const std::string name = text(rendezvous_name(local, dual));
      for (const Endpoint& destination : ends) {
        UnixName out[3];
        const int count = rendezvous_candidates(destination, out);
        bool tried = false;
        for (int i = 0; i < count; ++i) tried |= text(out[i]) == name;
        EXPECT_EQ(tried, rendezvous_matches(local, dual, destination)) << name;
      }
    }
  }
}

TEST(RendezvousName, DifferentListenersDifferentNames) {
  std::set<std::string> names;
  int count = 0;
  for (const char* address : {"0.0.0.0", "10.0.0.1", "1.0.0.10", "::", "::1", "a00:1::"}) {
    for (const std::uint16_t port : {std::uint16_t{1}, std::uint16_t{11}, std::uint16_t{65535}}) {
      names.insert(text(rendezvous_name(at(address, port), false)));
      ++count;
    }
  }
  names.insert(text(rendezvous_name(at("::", 1), true)));
  EXPECT_EQ(names.size(), static_cast<std::size_t>(count + 1));
}

TEST(Reason, EveryNumberHasAText) {
  EXPECT_STREQ(reason_text(0), "via shared memory");
  EXPECT_STREQ(reason_text(static_cast<std::uint32_t>(Reason::kReusePort)),
               "listener with SO_REUSEPORT");
  for (std::uint32_t i = 0; i <= static_cast<std::uint32_t>(Reason::kNotAllowed); ++i) {
    EXPECT_STRNE(reason_text(i), "unknown reason") << i;
  }
  EXPECT_STREQ(reason_text(static_cast<std::uint32_t>(Reason::kNotAllowed) + 1), "unknown reason");
  EXPECT_STREQ(reason_text(0xffffffff), "unknown reason");
}

}  // namespace
}  // namespace shunt::wire
