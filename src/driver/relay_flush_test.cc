#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <deque>

#include "driver/bell_relay.h"
#include "driver/support_test.h"

namespace shunt::driver {
namespace {

using namespace std::chrono_literals;

class RelayFlush : public WindowFixture {
 protected:
  void SetUp() override { make_window(Kind::kDevice, 1400); }
};

// All of a lane's turn is used up, and there is room for more: nothing would wake the loop for it.
TEST_F(RelayFlush, SaysThatThereIsMore) {
  constexpr std::size_t kLinks = 1000;
  rlimit limit{};
  ASSERT_EQ(0, ::getrlimit(RLIMIT_NOFILE, &limit));
  limit.rlim_cur = limit.rlim_max;
  ASSERT_EQ(0, ::setrlimit(RLIMIT_NOFILE, &limit));
  if (limit.rlim_cur < 3 * kLinks) GTEST_SKIP() << "too few descriptors";
  Options options;
  options.window = spec;
  options.partition = "a";
  options.tick = 10ms;
  options.dead_after = 1000ms;
  Core core(options);
  window::SectionFile other(core.backing, core.table.partitions[1], window::Access::kReadWrite);
  other.writable()->lanes[0].generation.store(1 << 16);
  other.writable()->header.life.state.store(1);
  other.writable()->header.life.heartbeat.fetch_add(1);
  ASSERT_TRUE(core.peer(2)->up(Clock::now()));
  const auto nobody = [](std::uint64_t) { return false; };
  window::Arena arena(reinterpret_cast<std::uint8_t*>(&core.section()), core.backing.geometry, 1,
                      core.backing.geometry.areas, nobody);
  BellRelay relay(core, arena, nobody, [](const BellRelay::LinkId&) {});
  std::deque<window::UniqueFd> programs;
  for (std::uint64_t id = 1; id <= kLinks; ++id) {
    window::AreaGrant own;
    ASSERT_EQ(wire::Reason::kNone, arena.give(2, 0, &own));
    int fds[2];
    ASSERT_EQ(0, ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    programs.emplace_back(fds[0]);
    relay.open({2, id, BellRelay::Side::kConnecting}, StrangerFd(fds[1]), own, 0);
    ring_bell(fds[0]);
  }
  while (core.poller.wait(0us) > 0) {
  }
  EXPECT_TRUE(relay.flush());
  EXPECT_LT(core.section().header.arena.notices_sent.load(), kLinks);
  EXPECT_FALSE(relay.flush());
  EXPECT_EQ(kLinks, core.section().header.arena.notices_sent.load());
}

}  // namespace
}  // namespace shunt::driver
