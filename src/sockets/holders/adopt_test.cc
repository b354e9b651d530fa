#include "sockets/holders/adopt.h"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <chrono>

#include "sockets/testing/test_plain.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

TEST(PlainAdoption, TakesALabelledSocketAndNothingElse) {
  Pair p;
  ASSERT_TRUE(write_label(p.fds[0], kLabel));
  adopt_plain(p.fds[0]);
  adopt_plain(p.fds[1]);
  Socket* s = plain(p.fds[0]);
  ASSERT_NE(nullptr, s);
  EXPECT_EQ(nullptr, lookup(p.fds[1]));
  EXPECT_EQ(AF_INET, s->family);
  EXPECT_EQ(kLabel.local, s->connection->local);
  EXPECT_EQ(kLabel.remote, s->connection->remote);
  EXPECT_EQ(conn::Carriage::kPlain, s->connection->carriage.load());
  EXPECT_EQ(nullptr, s->connection->own);
  EXPECT_EQ(-1, s->reservation);
}

TEST(PlainAdoption, DescriptorsOfOneSocketShareItsPage) {
  Pair p;
  ASSERT_TRUE(write_label(p.fds[0], kLabel));
  const int copy = ::dup(p.fds[0]);
  adopt_plain(p.fds[0]);
  adopt_plain(copy);
  adopt_plain(copy);
  ASSERT_NE(nullptr, plain(copy));
  EXPECT_EQ(plain(p.fds[0]), plain(copy));
  EXPECT_EQ(2u, plain(copy)->refs.load());
  Pair::close_ours(copy);
  EXPECT_EQ(1u, plain(p.fds[0])->refs.load());
}

TEST(PlainAdoption, AfterExecEveryOpenDescriptorIsLookedAt) {
  std::vector<int> fillers;
  for (int i = 0; i < 200; ++i)
    fillers.push_back(::dup(STDERR_FILENO));  // several reads of the directory
  Pair p;
  ASSERT_TRUE(write_label(p.fds[0], kLabel));
  adopt_inherited();
  EXPECT_NE(nullptr, plain(p.fds[0]));
  EXPECT_EQ(nullptr, lookup(p.fds[1]));
  for (int fd : fillers) ::close(fd);

  const auto begin = std::chrono::steady_clock::now();
  constexpr int kRounds = 100;
  for (int i = 0; i < kRounds; ++i) adopt_inherited();
  const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
  RecordProperty("adopt_inherited_us", std::to_string(took.count() / kRounds));
}

}  // namespace
}  // namespace shunt::sockets
