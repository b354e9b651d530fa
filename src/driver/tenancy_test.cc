// One partition, one driver, though nobody can ask another kernel who drives it.
#include "driver/tenancy.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "window/error.h"

namespace shunt::driver {
namespace {

using namespace std::chrono_literals;

class TenancyTest : public ::testing::Test {
 protected:
  void TearDown() override { ::unsetenv("SHUNT_TEST_BOOT_ID"); }
  void on_kernel(const char* id) { ::setenv("SHUNT_TEST_BOOT_ID", id, 1); }
  void left_up() {
    on_kernel("aa");
    Tenancy first(&life, 200ms);
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
};

TEST_F(TenancyTest, FirstDriverTakesItAtOnce) {
  Tenancy tenancy(&life, 60s);
  tenancy.take("a", "w");
  EXPECT_NE(0u, life.token.load());
  EXPECT_EQ(60000u, life.dead_after_ms.load());
  tenancy.confirm("a", "w");
  EXPECT_TRUE(tenancy.still_ours(false));
}

TEST_F(TenancyTest, AnotherKernelsDriverThatBeatsKeepsIt) {
  left_up();
  const std::uint64_t token = life.token.load();
  on_kernel("bb");
  std::atomic<bool> over{false};
  std::thread heart([&] {
    while (!over.load()) {
      life.heartbeat.fetch_add(1);
      std::this_thread::sleep_for(5ms);
    }
  });
  Tenancy second(&life, 10s);
  expect_refused(second);
  over.store(true);
  heart.join();
  EXPECT_EQ(token, life.token.load()) << "nothing was touched";
}

TEST_F(TenancyTest, AnotherKernelsDriverThatIsSilentIsReplacedAfterAWhile) {
  left_up();
  on_kernel("bb");
  const auto begin = std::chrono::steady_clock::now();
  Tenancy second(&life, 200ms);
  second.take("a", "w");
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 200ms);
}

TEST_F(TenancyTest, OneOfThisKernelWhoseLockIsGoneIsReplacedAtOnce) {
  left_up();
  Tenancy second(&life, 60s);  // would take a minute
  second.take("a", "w");
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

TEST_F(TenancyTest, ADamagedTokenEndsNobody) {
  Tenancy tenancy(&life, 200ms);
  tenancy.take("a", "w");
  for (int i = 0; i < 20; ++i) {
    life.token.store(99);  // the same each time, and nobody beats
    EXPECT_TRUE(tenancy.still_ours(false));
    EXPECT_NE(99u, life.token.load());
  }
  for (std::uint64_t i = 0; i < 20; ++i) {
    life.token.store(100 + i);  // beats, but never twice the same
    EXPECT_TRUE(tenancy.still_ours(true));
  }
  EXPECT_TRUE(tenancy.still_ours(false));
  EXPECT_TRUE(tenancy.disputed());
  EXPECT_TRUE(tenancy.still_ours(false));
  EXPECT_FALSE(tenancy.disputed());
}

// Ticks of two kernels come as they like.
TEST_F(TenancyTest, ADisputeIsNotOverBecauseTheOtherOneWasSlow) {
  Tenancy tenancy(&life, 20ms);
  tenancy.take("a", "w");
  life.token.store(99);
  EXPECT_TRUE(tenancy.still_ours(true));
  EXPECT_TRUE(tenancy.still_ours(true));
  EXPECT_TRUE(tenancy.disputed()) << "the other one has not looked yet";
  life.token.store(99);
  EXPECT_TRUE(tenancy.still_ours(true));
  life.token.store(99);
  EXPECT_FALSE(tenancy.still_ours(true));
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
  bool first_stays = true;
  for (int tick = 0; tick < 10 && first_stays; ++tick) {
    first_stays = first.still_ours(true);
    EXPECT_TRUE(first.disputed());
    EXPECT_TRUE(second.still_ours(true));
  }
  EXPECT_FALSE(first_stays);
  EXPECT_TRUE(second.still_ours(false));
  EXPECT_TRUE(second.still_ours(false));
  EXPECT_FALSE(second.disputed());
}

}  // namespace
}  // namespace shunt::driver
