// One partition, one driver, though nobody can ask another kernel who drives it.
#include "driver/core/tenancy.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <functional>

#include "window/error.h"

namespace shunt::driver {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kLife = 5;
constexpr std::uint64_t kBeats = 70;

class TenancyTest : public ::testing::Test {
 protected:
  void TearDown() override { ::unsetenv("SHUNT_TEST_BOOT_ID"); }
  void on_kernel(const char* id) { ::setenv("SHUNT_TEST_BOOT_ID", id, 1); }
  // Time passes only while somebody sleeps. `meanwhile` happens in each sleep.
  Tenancy::Waiting waiting(std::function<void()> meanwhile = [] {}) {
    return {[this] { return now; },
            [this, meanwhile](std::chrono::milliseconds time) {
              now += time;
              slept += time;
              meanwhile();
            }};
  }
  void left_up() {
    on_kernel("aa");
    Tenancy first(&life, 200ms, waiting());
    first.take("a", "w");
    life.state.store(static_cast<std::uint32_t>(layout::DriverState::kUp));
  }
  void expect_refused(Tenancy& tenancy) {
    try {
      tenancy.take("a", "w");
      FAIL() << "taken";
    } catch (const window::WindowError& e) {
      EXPECT_STREQ(
          "partition 'a' of window w is driven by another system: a partition has exactly one "
          "driver",
          e.what());
    }
  }

  layout::SectionLife life{};
  Tenancy::Clock::time_point now{1h};
  std::chrono::milliseconds slept{0};
};

TEST_F(TenancyTest, FirstDriverTakesItAtOnce) {
  Tenancy tenancy(&life, 60s, waiting());
  tenancy.take("a", "w");
  EXPECT_EQ(0ms, slept);
  EXPECT_NE(0u, life.token.load());
  EXPECT_EQ(60000u, life.dead_after_ms.load());
  tenancy.confirm("a", "w");
  EXPECT_TRUE(tenancy.still_ours(kBeats, kLife));
}

TEST_F(TenancyTest, AnotherKernelsDriverThatBeatsKeepsIt) {
  left_up();
  const std::uint64_t token = life.token.load();
  on_kernel("bb");
  Tenancy second(&life, 10s, waiting([this] {
    if (slept >= 5s) life.heartbeat.fetch_add(1);
  }));
  expect_refused(second);
  EXPECT_GE(slept, 5s) << "it was given the time to beat";
  EXPECT_LT(slept, 6s) << "and no more than it needed";
  EXPECT_EQ(token, life.token.load()) << "nothing was touched";
}

TEST_F(TenancyTest, AnotherKernelsDriverThatIsSilentIsReplacedAfterAWhile) {
  left_up();
  const std::uint64_t token = life.token.load();
  on_kernel("bb");
  Tenancy second(&life, 60s, waiting([&] { EXPECT_EQ(token, life.token.load()); }));
  second.take("a", "w");
  EXPECT_GE(slept, 60s);
  EXPECT_LT(slept, 61s);
  EXPECT_NE(token, life.token.load());
}

TEST_F(TenancyTest, OneOfThisKernelWhoseLockIsGoneIsReplacedAtOnce) {
  left_up();
  const std::uint64_t token = life.token.load();
  Tenancy second(&life, 60s, waiting());
  second.take("a", "w");
  EXPECT_EQ(0ms, slept) << "nobody is waited for whose lock tells that it is gone";
  EXPECT_NE(token, life.token.load());
}

TEST_F(TenancyTest, RealTimeIsWaitedForToo) {
  left_up();
  on_kernel("bb");
  const auto begin = std::chrono::steady_clock::now();
  Tenancy second(&life, 50ms);
  second.take("a", "w");
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 50ms);
}

TEST_F(TenancyTest, OfTwoThatStartAtOnceOneGoes) {
  on_kernel("aa");
  Tenancy first(&life, 200ms);
  first.take("a", "w");
  on_kernel("bb");
  Tenancy second(&life, 200ms);
  second.take("a", "w");
  EXPECT_THROW(first.confirm("a", "w"), window::WindowError);
  second.confirm("a", "w");
}

TEST_F(TenancyTest, NoiseEndsNobody) {
  Tenancy tenancy(&life, 200ms);
  tenancy.take("a", "w");
  const auto look = [&](std::uint64_t token, std::uint64_t of_life, std::uint64_t heartbeat) {
    life.token.store(token);
    life.generation.store(of_life);
    life.heartbeat.store(heartbeat);
    const bool ours = tenancy.still_ours(kBeats, kLife);
    EXPECT_NE(token, life.token.load());
    return ours;
  };
  for (std::uint64_t i = 0; i < 20; ++i) {
    EXPECT_TRUE(look(99, kLife + 1, kBeats)) << "the same each time, and nobody beats";
    EXPECT_TRUE(look(99, kLife, i)) << "in this driver's life";
  }
  for (std::uint64_t i = 0; i < 20; ++i) EXPECT_TRUE(look(100 + i, kLife + 1, i)) << "other tokens";
  for (std::uint64_t i = 0; i < 20; ++i) EXPECT_TRUE(look(99, kLife + 1 + i, i)) << "other lives";
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(look(0, 0, 0)) << "zeros over everything";
  for (int i = 0; i < 20; ++i)
    EXPECT_TRUE(look(~0ULL, ~0ULL, ~0ULL)) << "a heart that stands still";
  EXPECT_TRUE(tenancy.still_ours(kBeats, kLife));
  EXPECT_TRUE(tenancy.disputed());
  EXPECT_TRUE(tenancy.still_ours(kBeats, kLife));
  EXPECT_FALSE(tenancy.disputed());
}

// Ticks of two kernels come as they like.
TEST_F(TenancyTest, ADisputeIsNotOverBecauseTheOtherOneWasSlow) {
  Tenancy tenancy(&life, 20ms);
  tenancy.take("a", "w");
  std::uint64_t beats = kBeats + 1000;
  const auto other_looks = [&] {
    life.token.store(99);
    life.generation.store(kLife + 1);
    life.heartbeat.store(++beats);
  };
  other_looks();
  EXPECT_TRUE(tenancy.still_ours(kBeats, kLife));
  EXPECT_TRUE(tenancy.still_ours(kBeats, kLife));
  EXPECT_TRUE(tenancy.disputed()) << "the other one has not looked yet";
  other_looks();
  EXPECT_TRUE(tenancy.still_ours(kBeats, kLife));
  other_looks();
  EXPECT_FALSE(tenancy.still_ours(kBeats, kLife));
}

// The first was paused, the second took its place; the first comes back and must be the one that goes.
TEST_F(TenancyTest, WhoWasReplacedWhileItWasPausedLeaves) {
  on_kernel("aa");
  Tenancy first(&life, 20ms);
  first.take("a", "w");
  life.state.store(static_cast<std::uint32_t>(layout::DriverState::kUp));
  on_kernel("bb");
  Tenancy second(&life, 20ms);
  second.take("a", "w");
  second.confirm("a", "w");
  std::uint64_t beats_of_first = kBeats;
  std::uint64_t beats_of_second = kBeats + 1000;
  const auto beat = [&](std::uint64_t& beats, std::uint64_t of_life) {
    life.generation.store(of_life);
    life.heartbeat.store(++beats);
  };
  beat(beats_of_second, kLife + 1);
  bool first_stays = true;
  for (int tick = 0; tick < 10 && first_stays; ++tick) {
    first_stays = first.still_ours(beats_of_first, kLife);
    EXPECT_TRUE(first.disputed());
    if (first_stays) beat(beats_of_first, kLife);
    EXPECT_TRUE(second.still_ours(beats_of_second, kLife + 1));
    beat(beats_of_second, kLife + 1);
  }
  EXPECT_FALSE(first_stays);
  EXPECT_TRUE(second.still_ours(beats_of_second, kLife + 1));
  EXPECT_TRUE(second.still_ours(beats_of_second, kLife + 1));
  EXPECT_FALSE(second.disputed());
}

}  // namespace
}  // namespace shunt::driver
