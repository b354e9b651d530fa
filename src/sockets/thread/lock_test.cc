#include "sockets/thread/lock.h"

#include <gtest/gtest.h>

#include <thread>

#include "sockets/bell/checked_rings.h"
#include "sockets/testing/test_connection.h"

namespace shunt::sockets {
namespace {

TEST(Lock, SaysWhetherTheCallerHoldsIt) {
  Lock lock;
  EXPECT_FALSE(lock.held_by_me());
  {
    const Hold hold(lock);
    EXPECT_TRUE(lock.held_by_me());
    std::thread([&] { EXPECT_FALSE(lock.held_by_me()); }).join();
    const Hold nested(lock);  // as a signal handler's
    EXPECT_FALSE(nested.owns());
    EXPECT_TRUE(lock.held_by_me());
  }
  EXPECT_FALSE(lock.held_by_me());
}

// Where assertions are compiled in, a call without the lock that its header asks for does not go on.
TEST(LockDeathTest, ACallWithoutItsLockIsStopped) {
  const ShuntedPair pair;
  EXPECT_DEBUG_DEATH(writer_has_room(pair.a.connection()), "held_by_me");
}

}  // namespace
}  // namespace shunt::sockets
