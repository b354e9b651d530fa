#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <deque>
#include <memory>
#include <vector>

#include "driver/carriers/bell_relay.h"
#include "driver/support_test.h"

namespace shunt::driver {
namespace {

using namespace std::chrono_literals;

class RelayFlush : public WindowFixture {
 protected:
  void SetUp() override {
    make_window(Kind::kDevice, 1400);
    Options options;
    options.window = spec;
    options.partition = "a";
    options.tick = 10ms;
    options.dead_after = 1000ms;
    core = std::make_unique<Core>(options);
    window::SectionFile other(core->backing, core->table.partitions[1], window::Access::kReadWrite);
    other.writable()->lanes[0].generation.store(1 << 16);
    other.writable()->header.life.state.store(1);
    other.writable()->header.life.heartbeat.fetch_add(1);
    ASSERT_TRUE(core->peer(2)->up(Clock::now()));
    arena = std::make_unique<window::Arena>(reinterpret_cast<std::uint8_t*>(&core->section()),
                                            core->backing.geometry, 1, core->backing.geometry.areas,
                                            nobody);
    relay = std::make_unique<BellRelay>(*core, *arena, nobody, [](const BellRelay::LinkId&) {});
  }
  static bool nobody(std::uint64_t) { return false; }
  // The program's bell of a new link to partition b.
  int open(std::uint64_t id) {
    window::AreaGrant own;
    EXPECT_EQ(wire::Reason::kNone, arena->give(2, 0, &own));
    int fds[2];
    EXPECT_EQ(0, ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    programs.emplace_back(fds[0]);
    relay->open({2, id, BellRelay::Side::kConnecting}, StrangerFd(fds[1]), own, 0);
    return fds[0];
  }
  // The same once CONNECTED has come and what that says is told.
  int connect(std::uint64_t id) {
    const int program = open(id);
    wire::Message connected;
    connected.type = wire::MessageType::kConnected;
    relay->connected({2, id, BellRelay::Side::kConnecting}, 0, connected, program);
    EXPECT_FALSE(relay->flush());
    return program;
  }
  std::uint64_t told() const { return core->section().header.arena.notices_sent.load(); }
  void look_at_bells() {
    while (core->poller.wait(0us) > 0) {
    }
  }

  std::unique_ptr<Core> core;
  std::unique_ptr<window::Arena> arena;
  std::unique_ptr<BellRelay> relay;
  std::deque<window::UniqueFd> programs;
};

// All of a lane's turn is used up, and there is room for more: nothing would wake the loop for it.
TEST_F(RelayFlush, SaysThatThereIsMore) {
  constexpr std::size_t kLinks = 1000;
  rlimit limit{};
  ASSERT_EQ(0, ::getrlimit(RLIMIT_NOFILE, &limit));
  limit.rlim_cur = limit.rlim_max;
  ASSERT_EQ(0, ::setrlimit(RLIMIT_NOFILE, &limit));
  if (limit.rlim_cur < 3 * kLinks) GTEST_SKIP() << "too few descriptors";
  for (std::uint64_t id = 1; id <= kLinks; ++id) ring_bell(open(id));
  look_at_bells();
  EXPECT_TRUE(relay->flush());
  EXPECT_LT(told(), kLinks);
  EXPECT_FALSE(relay->flush());
  EXPECT_EQ(kLinks, told());
}

TEST_F(RelayFlush, ARingIsToldBeforeTheBellIsRead) {
  const int program = connect(1);
  const std::uint64_t before = told();
  ring_bell(program);
  look_at_bells();
  EXPECT_EQ(before + 1, told());
  EXPECT_FALSE(relay->flush());
  EXPECT_EQ(before + 1, told());
}

// The second byte may have come between the telling and the reading, for something that the peer has looked for in
// vain by then.
TEST_F(RelayFlush, ARingBehindTheFirstIsToldToo) {
  const int program = connect(1);
  const std::uint64_t before = told();
  ring_bell(program);
  ring_bell(program);
  look_at_bells();
  EXPECT_EQ(before + 1, told());
  relay->flush();
  EXPECT_EQ(before + 2, told());
}

// More of them go together, at the end of the round.
TEST_F(RelayFlush, OneOfARoundIsToldAtOnce) {
  std::vector<int> bells;
  for (std::uint64_t id = 1; id <= 1 + wire::kNoticesMax; ++id) bells.push_back(connect(id));
  const std::uint64_t before = told();
  const std::uint64_t messages = core->counters().messages_sent.load();
  for (const int bell : bells) ring_bell(bell);
  look_at_bells();
  EXPECT_EQ(before + 1, told());
  relay->flush();
  EXPECT_EQ(before + 1 + wire::kNoticesMax, told());
  EXPECT_EQ(messages + 2, core->counters().messages_sent.load());
  ring_bell(bells[0]);
  look_at_bells();
  EXPECT_EQ(before + 2 + wire::kNoticesMax, told());
}

}  // namespace
}  // namespace shunt::driver
