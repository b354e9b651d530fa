// pthread_cancel() of a thread that is blocked in a call that waits for data.
#include <sys/select.h>
#include <sys/uio.h>

#include "epoll_set.h"
#include "victim.h"

namespace shunt::test {
namespace {

struct Sleep {
  const char* name;
  void (*call)(int fd);  // blocks until there is something to read
};
char g_sink[64];

const Sleep kSleeps[] = {
    {"Recv", [](int fd) { recv(fd, g_sink, sizeof g_sink, 0); }},
    {"RecvPeek", [](int fd) { recv(fd, g_sink, sizeof g_sink, MSG_PEEK); }},
    {"RecvWithTimeout",
     [](int fd) {
       set_timeout(fd, SO_RCVTIMEO, 30'000);
       recv(fd, g_sink, sizeof g_sink, 0);
       set_timeout(fd, SO_RCVTIMEO, 0);
     }},
    {"Recvfrom", [](int fd) { recvfrom(fd, g_sink, sizeof g_sink, 0, nullptr, nullptr); }},
    {"Read",
     [](int fd) {
       if (read(fd, g_sink, sizeof g_sink) < 0) std::perror("read");
     }},
    {"Readv",
     [](int fd) {
       const iovec part{g_sink, sizeof g_sink};
       if (readv(fd, &part, 1) < 0) std::perror("readv");
     }},
    {"Recvmsg",
     [](int fd) {
       iovec part{g_sink, sizeof g_sink};
       msghdr m{};
       m.msg_iov = &part;
       m.msg_iovlen = 1;
       recvmsg(fd, &m, 0);
     }},
    {"Recvmmsg",
     [](int fd) {
       iovec part{g_sink, sizeof g_sink};
       mmsghdr m{};
       m.msg_hdr.msg_iov = &part;
       m.msg_hdr.msg_iovlen = 1;
       recvmmsg(fd, &m, 1, 0, nullptr);
     }},
    {"Poll",
     [](int fd) {
       pollfd p{fd, POLLIN, 0};
       poll(&p, 1, -1);
     }},
    {"PollManyWithTimeout",
     [](int fd) {
       std::vector<pollfd> many(400, pollfd{fd, POLLIN, 0});
       poll(many.data(), many.size(), 30'000);
     }},
    {"Ppoll",
     [](int fd) {
       pollfd p{fd, POLLIN, 0};
       const timespec timeout{30, 0};
       ppoll(&p, 1, &timeout, nullptr);
     }},
    {"Select",
     [](int fd) {
       fd_set set;
       FD_ZERO(&set);
       FD_SET(fd, &set);
       select(fd + 1, &set, nullptr, nullptr, nullptr);
     }},
    {"Pselect",
     [](int fd) {
       fd_set set;
       FD_ZERO(&set);
       FD_SET(fd, &set);
       pselect(fd + 1, &set, nullptr, nullptr, nullptr, nullptr);
     }},
    {"EpollWait",
     [](int fd) {
       Epoll epoll;
       epoll.add(fd, EPOLLIN);
       epoll.wait(-1);
     }},
    {"EpollWaitEdge",
     [](int fd) {
       Epoll epoll;
       epoll.add(fd, EPOLLIN | EPOLLRDHUP | EPOLLET);
       epoll.wait(30'000);
     }},
    {"Splice",
     [](int fd) {
       int pipes[2];
       if (pipe2(pipes, O_CLOEXEC) != 0) std::abort();
       const Fd in(pipes[0]);
       const Fd out(pipes[1]);
       splice(fd, nullptr, out, nullptr, 64, 0);
     }},
};

class CancelSleep : public testing::TestWithParam<Sleep> {};

TEST_P(CancelSleep, EndsTheThreadAndNothingElse) {
  Pair p = connected_pair();
  Victim victim([&] { GetParam().call(p.server); });
  EXPECT_TRUE(victim.cancel_asleep());
  EXPECT_EQ(victim.cleaned(), 1);
  expect_usable(p);
}

TEST_P(CancelSleep, OneOfTwoSleepers) {
  Pair p = connected_pair();
  std::atomic<bool> woken{false};
  Victim other([&] {
    GetParam().call(p.server);
    woken = true;
  });
  Victim victim([&] { GetParam().call(p.server); });
  EXPECT_TRUE(victim.cancel_asleep());
  EXPECT_FALSE(woken);
  send_all(p.client, "x");
  EXPECT_FALSE(other.join());
  EXPECT_TRUE(woken);
}

TEST_P(CancelSleep, PendingBeforeTheCall) {
  Pair p = connected_pair();
  std::atomic<bool> requested{false};
  Victim victim([&] {
    while (!requested) std::this_thread::yield();
    GetParam().call(p.server);
  });
  // Nothing in the thread was a cancellation point so far: yield() is none.
  victim.cancel();
  requested = true;
  EXPECT_TRUE(victim.join());
  expect_usable(p);
}

TEST_P(CancelSleep, DisabledIsHonoured) {
  Pair p = connected_pair();
  std::atomic<bool> returned{false};
  Victim victim([&] {
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
    GetParam().call(p.server);
    returned = true;
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, nullptr);
    pthread_testcancel();
    ADD_FAILURE() << "the cancellation was forgotten";
  });
  std::this_thread::sleep_for(kToFallAsleep);
  victim.cancel();
  std::this_thread::sleep_for(kToFallAsleep);
  EXPECT_FALSE(returned);
  send_all(p.client, "x");
  EXPECT_TRUE(victim.join());
  EXPECT_TRUE(returned);
}

INSTANTIATE_TEST_SUITE_P(Cancel, CancelSleep, testing::ValuesIn(kSleeps),
                         [](const auto& each) { return std::string(each.param.name); });

}  // namespace
}  // namespace shunt::test
