#include "driver/strangers/quota.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace shunt::driver {
namespace {

constexpr uid_t kAlice = 70001;
constexpr uid_t kBob = 70002;

TEST(Quota, OneUserLeavesPlacesToTheOthers) {
  Quota quota(2);
  EXPECT_TRUE(quota.take(kAlice));
  EXPECT_TRUE(quota.take(kAlice));
  EXPECT_FALSE(quota.take(kAlice));
  EXPECT_TRUE(quota.take(kBob));
  quota.give_back(kAlice);
  EXPECT_TRUE(quota.take(kAlice));
  EXPECT_FALSE(quota.take(kAlice));
}

TEST(Quota, NotOfRootAndTheDriversUser) {
  Quota quota(1);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(quota.take(0));
    EXPECT_TRUE(quota.take(::geteuid()));
  }
}

TEST(Quota, NothingIsARefusal) {
  Quota none(0);
  EXPECT_FALSE(none.take(kAlice));
}

}  // namespace
}  // namespace shunt::driver
