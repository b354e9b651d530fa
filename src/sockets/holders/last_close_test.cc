// The last close while the peer leaves its rings, at each of the points where the two can meet. One of the ends is
// played by hand, through its SwitchLine.
#include "sockets/holders/last_close.h"

#include <fcntl.h>

#include <functional>
#include <string>
#include <thread>

#include "sockets/bell/look.h"
#include "sockets/downgrade/downgrade.h"
#include "sockets/downgrade/follow.h"
#include "sockets/holders/orphan.h"
#include "sockets/stream/send.h"
#include "sockets/testing/test_connection.h"

namespace shunt::sockets {
namespace {

struct LastClose : testing::Test {
  ShuntedPair pair;
  const TestEnd& a = pair.a;
  const TestEnd& b = pair.b;

  LastClose() {
    a.connection()->connecting_side = true;
    const iovec part{const_cast<char*>("hello"), 5};
    EXPECT_EQ(5, send_stream(b.fd, b.socket, &part, 1, 0));
  }
  static layout::SwitchLine& line(const TestEnd& end) { return end.connection()->own->switch_line; }
  // The kernel's part of a close; the pair's destructor wants the number.
  static void hang_up(const TestEnd& end) {
    const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    EXPECT_EQ(end.fd, ::dup3(null, end.fd, O_CLOEXEC));
    ::close(null);
  }
  static void leave(const TestEnd& end) {
    leave_with(end.fd, end.socket, 0, 0, [&](const Leave&) {
      announce_if_last(end.socket, 0);
      hang_up(end);
    });
  }
  // What a holder without the provider reads up to the end.
  static std::string read_raw(int fd) {
    std::string all;
    char bytes[64];
    for (ssize_t n; (n = ::recv(fd, bytes, sizeof bytes, 0)) > 0;)
      all.append(bytes, static_cast<std::size_t>(n));
    return all;
  }
  static void wait_for(const std::atomic<std::uint32_t>& word, std::uint32_t value) {
    while (word.load() != value) std::this_thread::yield();
  }

  // `a` leaves its rings; `meet` runs when it has found `b` carrying, and has not sent its mark yet.
  Downgraded downgrade_and(const std::function<void()>& meet) {
    line(b).ringing.store(1);  // holds it there
    Downgraded result = Downgraded::kNotNow;
    std::thread first([&] { result = downgrade(a.fd, a.socket); });
    wait_for(line(a).plain, layout::kSwitching);
    meet();
    first.join();
    return result;
  }
  // The same, when it has left them and finds `b` leaving.
  Downgraded downgrade_past(const std::function<void()>& meet) {
    return downgrade_and([&] {
      line(b).plain.store(layout::kLeaving);
      line(b).ringing.store(0);
      wait_for(line(a).plain, layout::kPlain);
      meet();
    });
  }
};

TEST_F(LastClose, DoesNotWaitForAPeerThatSwitchesAndSaysSo) {
  line(a).plain.store(layout::kSwitching);  // and is off its CPU
  leave(b);
  EXPECT_EQ(layout::kLeaving, line(b).plain.load());
  EXPECT_EQ(0u, line(b).ringing.load());
  line(a).plain.store(layout::kCarrying);
}

TEST_F(LastClose, FollowsAPeerThatHasSwitched) {
  ASSERT_EQ(Downgraded::kYes, downgrade(a.fd, a.socket));
  leave(b);
  EXPECT_EQ(layout::kPlain, line(b).plain.load());
  EXPECT_EQ("hello", read_raw(a.fd));
}

TEST_F(LastClose, BeforeTheMarkLeavesTheBytesInTheArea) {
  line(b).plain.store(layout::kLeaving);
  std::thread closer([&] {
    wait_for(line(a).plain, layout::kSwitching);
    hang_up(b);
  });
  EXPECT_EQ(Downgraded::kPeerGone, downgrade(a.fd, a.socket));
  closer.join();
  ASSERT_EQ(0, move_to_pair(a.fd, a.socket));
  EXPECT_EQ("hello", read_raw(a.fd));
}

TEST_F(LastClose, BetweenTheMarkAndTheDecisionLeavesTheBytesInTheArea) {
  EXPECT_EQ(Downgraded::kPeerGone, downgrade_past([&] { hang_up(b); }));
  EXPECT_EQ(layout::kCarrying, line(a).plain.load());
  ASSERT_EQ(0, move_to_pair(a.fd, a.socket));
  EXPECT_EQ("hello", read_raw(a.fd));
}

TEST_F(LastClose, ThatSeesTheDecisionFollowsFirst) {
  EXPECT_EQ(Downgraded::kYes, downgrade_past([&] { leave(b); }));
  EXPECT_EQ("hello", read_raw(a.fd));
}

TEST_F(LastClose, ThatFailsIsNoClose) {
  EXPECT_EQ(Downgraded::kYes, downgrade_past([&] { line(b).plain.store(layout::kCarrying); }));
  absorb_events(b.connection());
  EXPECT_TRUE(follow_downgrade(b.fd, b.socket));
  char bytes[5];
  EXPECT_EQ(5, ::recv(a.fd, bytes, sizeof bytes, 0));
}

// It could only be stopped, or lie: after a second its bytes are taken as they are.
TEST_F(LastClose, ThatNeverEndsIsNotWaitedForForEver) {
  EXPECT_EQ(Downgraded::kPeerGone, downgrade_past([] {}));
  ASSERT_EQ(0, move_to_pair(a.fd, a.socket));
  EXPECT_EQ("hello", read_raw(a.fd));
}

TEST_F(LastClose, MeetsADowngradeAtAnyMoment) {
  for (int round = 0; round < 300; ++round) {
    ShuntedPair each;
    const iovec part{const_cast<char*>("hello"), 5};
    ASSERT_EQ(5, send_stream(each.b.fd, each.b.socket, &part, 1, 0));
    std::atomic<int> ready{0};
    const auto meet = [&] {
      ++ready;
      while (ready != 2) std::this_thread::yield();
    };
    std::thread closer([&] {
      meet();
      leave(each.b);
    });
    meet();
    const Downgraded how = downgrade(each.a.fd, each.a.socket);
    closer.join();
    if (how == Downgraded::kPeerGone) {
      ASSERT_EQ(0, move_to_pair(each.a.fd, each.a.socket));
    }
    ASSERT_EQ("hello", read_raw(each.a.fd)) << round;
  }
}

}  // namespace
}  // namespace shunt::sockets
