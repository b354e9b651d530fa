// A connection whose descriptor another program gets, by every way there is: what either side had
// written before arrives exactly once, in order and first; then both talk on.
#include "inherit.h"

#include <gtest/gtest.h>

namespace shunt::test {
namespace {

constexpr std::size_t kMiB = 1 << 20;
constexpr std::size_t kSome = 100 << 10;

struct Case {
  Way way;
  bool bare;
  bool accepting;
};

std::string case_name(const ::testing::TestParamInfo<Case>& info) {
  return std::string(name_of(info.param.way)) + (info.param.bare ? "_Bare" : "_Provider") +
         (info.param.accepting ? "_Accepting" : "_Connecting");
}

class InheritWay : public ::testing::TestWithParam<Case> {
 protected:
  static Plan plan(Steps steps, std::function<std::size_t(int)> before = nullptr) {
    Plan p;
    p.way = GetParam().way;
    p.bare = GetParam().bare;
    p.accepting = GetParam().accepting;
    p.before = std::move(before);
    p.steps = std::move(steps);
    return p;
  }
};

class InheritKept : public InheritWay {};  // ways that leave the old program alive

Steps joined(Steps first, const Steps& then) {
  first.insert(first.end(), then.begin(), then.end());
  return first;
}

TEST_P(InheritWay, TalkOnly) {
  Handover h(plan(joined({"blocking"}, talk_steps())));
  h.go();
  talk(h.peer);
  EXPECT_EQ(h.wait(), 0);
  expect_eof(h.peer);
}

TEST_P(InheritWay, OneUnreadByte) {
  Handover h(plan(joined({"recv:1:0:1"}, talk_steps())));
  send_all(h.peer, pattern(1));
  h.go();
  talk(h.peer);
  EXPECT_EQ(h.wait(), 0);
}

TEST_P(InheritWay, UnreadBytesOfWhichSomeWereRead) {
  Plan p = plan(joined({"recv:1:10000:92400", "quiet"}, talk_steps()), [](int fd) {
    if (recv_exact(fd, 10'000) != pattern(10'000)) _exit(97);
    return std::size_t{0};
  });
  p.meanwhile = [](int peer) { send_all(peer, pattern(kSome)); };
  Handover h(std::move(p));
  h.go();
  talk(h.peer);
  EXPECT_EQ(h.wait(), 0);
}

TEST_P(InheritWay, PeerIsBlockedInSend) {
  Handover h(plan(joined({"recv-eof:1:0"}, {"send:2:0:5000"})));
  const std::size_t filled = fill_with_pattern(h.peer);
  const std::string rest = pattern(kMiB, 1, filled);
  Sleeper sender([&] {
    send_all(h.peer, rest);
    shutdown(h.peer, SHUT_WR);
  });
  h.go();
  EXPECT_EQ(std::stoul(recv_exact(h.peer, 16)), filled + kMiB);
  EXPECT_TRUE(recv_to_eof(h.peer) == pattern(5000, 2));
  EXPECT_EQ(h.wait(), 0);
}

TEST_P(InheritWay, OldProgramsByteComesFirst) {
  Handover h(plan(joined({"say", "await"}, talk_steps()), [](int fd) {
    send_all(fd, "1");
    return std::size_t{1};
  }));
  h.go();
  h.hear();
  h.tell();
  EXPECT_EQ(recv_exact(h.peer, 1), "1");
  talk(h.peer);
  EXPECT_EQ(h.wait(), 0);
}

TEST_P(InheritWay, OldProgramsBytesComeFirst) {
  Handover h(plan(joined({"say", "send:1:102400:1000"}, talk_steps()), [](int fd) {
    send_all(fd, pattern(kSome));
    return std::size_t{0};
  }));
  EXPECT_TRUE(recv_exact(h.peer, 70) == pattern(70));
  h.go();
  h.hear();
  EXPECT_TRUE(recv_exact(h.peer, kSome + 930) == pattern(kSome + 930, 1, 70));
  talk(h.peer);
  EXPECT_EQ(h.wait(), 0);
}

TEST_P(InheritWay, OldProgramLeavesFullBuffers) {
  Handover h(plan(joined({"say", "send:1:*:1048576"}, {"shutdown", "recv:2:0:100", "eof"}),
                  [](int fd) { return fill_with_pattern(fd); }));
  h.go();
  h.hear();
  const std::size_t total = h.amount() + kMiB;
  EXPECT_TRUE(recv_exact(h.peer, total) == pattern(total));
  expect_eof(h.peer);
  send_all(h.peer, pattern(100, 2));
  shutdown(h.peer, SHUT_WR);
  EXPECT_EQ(h.wait(), 0);
}

TEST_P(InheritWay, NewProgramEndsItsHalfFirst) {
  Handover h(plan({"send:1:0:3000", "shutdown", "pipe", "recv:2:0:102400", "eof"}));
  h.go();
  EXPECT_TRUE(recv_to_eof(h.peer) == pattern(3000));
  send_all(h.peer, pattern(kSome, 2));
  shutdown(h.peer, SHUT_WR);
  EXPECT_EQ(h.wait(), 0);
}

TEST_P(InheritWay, NamesAndOptions) {
  if (GetParam().bare && under_shunt()) return;  // what is without the provider sees AF_UNIX
  Handover h(plan(joined({"names", "options"}, talk_steps())));
  h.go();
  talk(h.peer);
  EXPECT_EQ(h.wait(), 0);
}

// The old program keeps its descriptor, as a shell does whose commands write one after the other.
TEST_P(InheritKept, HeaderBodyTrailer) {
  Plan p = plan({"recv:2:0:50000", "send:1:1000:200000"}, [](int fd) {
    send_all(fd, pattern(1000));
    return std::size_t{0};
  });
  p.after = [](int fd) {
    if (recv_exact(fd, 1000) != pattern(1000, 2, 50'000)) _exit(97);
    send_all(fd, pattern(1000, 1, 201'000));
    if (recv_to_eof(fd) != pattern(10, 3)) _exit(98);
    send_all(fd, "end");
  };
  Handover h(std::move(p));
  send_all(h.peer, pattern(51'000, 2));
  h.go();
  EXPECT_TRUE(recv_exact(h.peer, 202'000) == pattern(202'000));
  send_all(h.peer, pattern(10, 3));
  shutdown(h.peer, SHUT_WR);
  EXPECT_EQ(recv_to_eof(h.peer), "end");
  EXPECT_EQ(h.wait(), 0);
}

std::vector<Case> cases_from(Way first) {
  std::vector<Case> cases;
  for (int way = static_cast<int>(first); way <= static_cast<int>(Way::kPassed); ++way) {
    for (const bool bare : {false, true}) {
      for (const bool accepting : {false, true})
        cases.push_back({static_cast<Way>(way), bare, accepting});
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Inherit, InheritWay, ::testing::ValuesIn(cases_from(Way::kExec)),
                         case_name);
INSTANTIATE_TEST_SUITE_P(Inherit, InheritKept, ::testing::ValuesIn(cases_from(Way::kForkExec)),
                         case_name);

}  // namespace
}  // namespace shunt::test
