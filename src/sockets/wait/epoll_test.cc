#include <string>
#include <vector>

#include "sockets/stream/receive.h"
#include "sockets/stream/send.h"
#include "sockets/testing/test_connection.h"
#include "sockets/wait/epoll_control.h"
#include "sockets/wait/epoll_lifetime.h"
#include "sockets/wait/epoll_set.h"
#include "sockets/wait/epoll_wait.h"

namespace shunt::sockets {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

class EpollTest : public testing::Test {
 protected:
  EpollTest() : epfd_(epoll_create1(EPOLL_CLOEXEC)) { made_epoll(epfd_); }
  ~EpollTest() override {
    drop_reference(take_out(epfd_));
    ::close(epfd_);
  }
  long control(int op, std::uint32_t events = 0) {
    epoll_event event{};
    event.events = events;
    event.data.u64 = 42;
    return control_epoll(epfd_, op, pair_.b.fd, &event).value();
  }
  // Events of the one socket; 0: none in time.
  std::uint32_t wait(std::int64_t timeout_ns) {
    epoll_event event{};
    const Outcome n = wait_epoll(epfd_, &event, 1, timeout_ns, nullptr);
    if (n != 1) return 0;
    EXPECT_EQ(event.data.u64, 42u);
    return event.events;
  }
  void send(char c) {
    const iovec part{&c, 1};
    EXPECT_EQ(1, send_stream(pair_.a.fd, pair_.a.socket, &part, 1, 0));
  }
  char receive() {
    char c = 0;
    const iovec part{&c, 1};
    EXPECT_EQ(1, receive_stream(pair_.b.fd, pair_.b.socket, &part, 1, MSG_DONTWAIT));
    return c;
  }

  ShuntedPair pair_;
  int epfd_;
};

TEST_F(EpollTest, APeersEndIsSeenBehindItsRing) {
  ASSERT_EQ(0, control(EPOLL_CTL_ADD, EPOLLIN | EPOLLRDHUP));
  EXPECT_EQ(0u, wait(1'000'000)) << "asleep, so that the peer rings";
  send('x');
  // As when its process is killed: the bell ends, and nobody has set a flag.
  ASSERT_EQ(0, ::shutdown(pair_.a.fd, SHUT_RDWR));
  EXPECT_NE(0u, wait(kSecond) & EPOLLIN);
  EXPECT_EQ('x', receive());
  EXPECT_NE(0u, wait(kSecond) & EPOLLRDHUP);
}

TEST_F(EpollTest, RingsThatStayOnTheBellLoseNothing) {
  ASSERT_EQ(0, control(EPOLL_CTL_ADD, EPOLLIN));
  for (int round = 0; round < 300; ++round) {  // more than a bell could hold
    EXPECT_EQ(0u, wait(1'000));
    send('r');
    ASSERT_EQ(EPOLLIN, wait(kSecond)) << round;
    EXPECT_EQ('r', receive());
  }
}

TEST_F(EpollTest, TakenOutAndPutBack) {
  ASSERT_EQ(0, control(EPOLL_CTL_ADD, EPOLLIN));
  EXPECT_EQ(-EEXIST, control(EPOLL_CTL_ADD, EPOLLIN));
  ASSERT_EQ(0, control(EPOLL_CTL_DEL));
  EXPECT_EQ(-ENOENT, control(EPOLL_CTL_DEL));
  EXPECT_EQ(-ENOENT, control(EPOLL_CTL_MOD, EPOLLIN));
  send('d');
  EXPECT_EQ(0u, wait(1'000'000)) << "nothing is registered";
  ASSERT_EQ(0, control(EPOLL_CTL_ADD, EPOLLIN | EPOLLET));
  EXPECT_EQ(EPOLLIN, wait(kSecond)) << "what holds at ADD is reported";
  EXPECT_EQ(0u, wait(1'000'000)) << "once";
  EXPECT_EQ('d', receive());
  send('e');
  EXPECT_EQ(EPOLLIN, wait(kSecond));
}

// A set is looked through for nested ones only while it has some; an entry is found without a walk when it goes.
TEST_F(EpollTest, NestedSetsAreCounted) {
  const int inner = epoll_create1(EPOLL_CLOEXEC);
  made_epoll(inner);
  EpollSet* set = lookup(epfd_)->epoll;
  EXPECT_EQ(0u, set->nested);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = 7;
  ASSERT_EQ(0, control_epoll(inner, EPOLL_CTL_ADD, pair_.b.fd, &event));
  ASSERT_EQ(0, control_epoll(epfd_, EPOLL_CTL_ADD, inner, &event));
  EXPECT_EQ(1u, set->nested);
  send('n');
  ASSERT_EQ(1, wait_epoll(epfd_, &event, 1, kSecond, nullptr));
  EXPECT_EQ(7u, event.data.u64);
  ASSERT_EQ(0, control_epoll(epfd_, EPOLL_CTL_DEL, inner, nullptr));
  EXPECT_EQ(0u, set->nested);
  ASSERT_EQ(0, control_epoll(epfd_, EPOLL_CTL_ADD, inner, &event));
  drop_reference(take_out(inner));
  ::close(inner);
  EXPECT_EQ(0u, set->nested) << "its last close takes it out, too";
}

TEST_F(EpollTest, EntriesGoInAnyOrder) {
  std::vector<int> others;
  for (int i = 0; i < 5; ++i) {
    const int fd = ::dup(pair_.b.fd);
    enter_again(fd, pair_.b.socket);
    others.push_back(fd);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = 42;
    ASSERT_EQ(0, control_epoll(epfd_, EPOLL_CTL_ADD, fd, &event));
  }
  // The middle, both ends, and what is left; EPOLLEXCLUSIVE makes each a registration anew.
  for (const int i : {2, 0, 4, 1, 3}) {
    epoll_event event{};
    event.events = EPOLLIN | EPOLLEXCLUSIVE;
    event.data.u64 = 42;
    ASSERT_EQ(0, control_epoll(epfd_, EPOLL_CTL_DEL, others[i], nullptr)) << i;
    ASSERT_EQ(0, control_epoll(epfd_, EPOLL_CTL_ADD, others[i], &event)) << i;
  }
  send('o');
  EXPECT_EQ(EPOLLIN, wait(kSecond));
  for (const int fd : others) {
    drop_reference(take_out(fd));
    ::close(fd);
  }
}

}  // namespace
}  // namespace shunt::sockets
