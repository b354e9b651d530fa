#include "driver/strangers/policy.h"

#include <gtest/gtest.h>
#include <pwd.h>
#include <unistd.h>

#include "window/error.h"

namespace shunt::driver {
namespace {

constexpr uid_t kOther = 12345678;

TEST(Policy, RootAndTheDriversUserOnly) {
  const Policy policy({});
  EXPECT_TRUE(policy.may_use(0));
  EXPECT_TRUE(policy.may_use(geteuid()));
  EXPECT_FALSE(policy.may_use(kOther));
  EXPECT_FALSE(policy.may_use(static_cast<uid_t>(-1)));
}

TEST(Policy, NumbersAndNames) {
  const passwd* daemon = getpwnam("daemon");
  if (daemon == nullptr) GTEST_SKIP() << "no user 'daemon' here";
  const uid_t uid = daemon->pw_uid;
  const Policy policy({"12345678", "daemon"});
  EXPECT_TRUE(policy.may_use(kOther));
  EXPECT_TRUE(policy.may_use(uid));
  EXPECT_FALSE(policy.may_use(kOther + 1));
}

TEST(Policy, Any) {
  const Policy policy({"any"});
  EXPECT_TRUE(policy.may_use(kOther));
}

TEST(Policy, WhoIsNotThereIsNamed) {
  for (const char* who : {"", "no-such-user-here", "-1", "4294967295", "4294967296", "12x", " 0"}) {
    try {
      const Policy policy({who});
      FAIL() << who;
    } catch (const window::WindowError& error) {
      EXPECT_NE(std::string::npos, std::string(error.what()).find("'" + std::string(who) + "'"));
    }
  }
}

}  // namespace
}  // namespace shunt::driver
