// Which budgets there are for looking before sleeping, and how a look ends.
#include "sockets/thread/spin.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/time.h>

#include <atomic>

#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

std::atomic<int> handled{0};

class SpinTest : public ::testing::Test {
 protected:
  SpinTest() : cap_(spin_cap_us), far_cap_(far_spin_cap_us) {}
  ~SpinTest() override {
    spin_cap_us = cap_;
    far_spin_cap_us = far_cap_;
    rung_far.store(false);
  }

 private:
  const std::uint32_t cap_;
  const std::uint32_t far_cap_;
};

TEST_F(SpinTest, OnOneProcessorOnlyFarPeersAreLookedFor) {
  spin_cap_us = 0;
  far_spin_cap_us = 200;
  SpinBudget budget{};
  EXPECT_EQ(0u, budget.begin());
  EXPECT_EQ(Spin::kNothing, spin_until(budget, 0, [] { return true; }));
  budget.far = true;
  EXPECT_LT(0u, budget.begin());
  EXPECT_EQ(Spin::kReady, spin_until(budget, 0, [] { return true; }));
  EXPECT_EQ(Spin::kNothing, spin_until(budget, 0, [] { return false; }));
}

TEST_F(SpinTest, ShortSleepsMakeFarBudgetsGrowAndLongOnesShrink) {
  far_spin_cap_us = 1000;
  SpinBudget budget{};
  budget.far = true;
  for (int i = 0; i < 10; ++i) budget.slept(1900);  // the wake-up is a good part of it
  EXPECT_EQ(1000u, budget.begin());
  for (int i = 0; i < 10; ++i) budget.slept(2000);
  EXPECT_GT(50u, budget.begin());
}

TEST_F(SpinTest, VainLooksOfATrialEndInAQuietTime) {
  far_spin_cap_us = 1000;
  SpinBudget budget{};
  budget.far = true;
  for (int i = 0; i < 10; ++i) budget.slept(1000);
  int looks = 0;
  for (; budget.begin() != 0; ++looks) budget.slept(1000);
  EXPECT_LT(50, looks);
  EXPECT_GT(200, looks);
}

TEST_F(SpinTest, CalibrationStaysWithinItsBounds) {
  far_spin_cap_us = 0;
  calibrate_far();
  EXPECT_LE(200u, far_spin_cap_us);
  EXPECT_GE(2000u, far_spin_cap_us);
}

TEST_F(SpinTest, NobodyLooksBeyondHisTime) {
  far_spin_cap_us = 2000;
  SpinBudget budget{};
  budget.far = true;
  for (int i = 0; i < 10; ++i) budget.slept(1000);
  EXPECT_EQ(2000u, budget.begin(0));
  EXPECT_EQ(0u, budget.begin(1));  // long over
  EXPECT_GE(300u, budget.begin(sys::monotonic_ns() + 300'000));
}

// As it would have ended, or not, a call that sleeps.
TEST_F(SpinTest, AHandlerEndsTheNaps) {
  far_spin_cap_us = 20'000'000;
  SpinBudget budget{};
  budget.far = true;
  for (int i = 0; i < 25; ++i) budget.slept(1000);
  for (const bool restarts : {false, true}) {
    struct sigaction action {};
    struct sigaction former {};
    action.sa_handler = [](int) { ++handled; };
    action.sa_flags = restarts ? SA_RESTART : 0;
    ASSERT_EQ(0, sigaction(SIGALRM, &action, &former));
    const int before = handled;
    const itimerval soon{{0, 0}, {0, 2000}};
    rung_far.store(true);
    ASSERT_EQ(0, setitimer(ITIMER_REAL, &soon, nullptr));
    EXPECT_EQ(restarts ? Spin::kHandlerRestarts : Spin::kHandlerEnds,
              spin_until(budget, 0, [] { return false; }));
    EXPECT_EQ(before + 1, handled.load());
    EXPECT_FALSE(rung_far.load());
    ASSERT_EQ(0, sigaction(SIGALRM, &former, nullptr));
  }
}

}  // namespace
}  // namespace shunt::sockets
