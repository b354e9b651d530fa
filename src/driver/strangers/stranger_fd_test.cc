// Whoever hands a descriptor over does not wait for its end.
#include "driver/strangers/stranger_fd.h"

#include <fcntl.h>
#include <poll.h>

#include <deque>

#include "driver/carriers/slow_close_test.h"

namespace shunt::driver {
namespace {

bool hung_up(int socket) {
  pollfd p{socket, 0, 0};
  return ::poll(&p, 1, 0) == 1 && (p.revents & POLLHUP) != 0;
}

TEST(StrangerFd, HangsUpAtOnce) {
  int fds[2];
  ASSERT_EQ(0, ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
  const window::UniqueFd other(fds[0]);
  StrangerFd fd(fds[1]);
  fd.hang_up();
  EXPECT_FALSE(fd.valid());
  EXPECT_TRUE(hung_up(other.get()));
}

// Each of these keeps one thread busy: what lies in a socket's queue is closed with it.
TEST(StrangerFd, NeverWaitsHoweverManyAreStuck) {
  {
    std::deque<SlowToClose> slow(kClosersMax + 4);
    const std::uint8_t byte = 0;
    for (SlowToClose& s : slow) {
      int fds[2];
      ASSERT_EQ(0, ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
      const int slow_one = s.socket.get();
      send_many(fds[0], std::span(&byte, 1), std::span(&slow_one, 1));
      s.sent();
      ::close(fds[0]);
      StrangerFd(fds[1]).reset();
    }
    EXPECT_FALSE(crowded());
    for (std::size_t i = 0; i < kUnclosedMax + kClosersMax; ++i) {
      StrangerFd(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0)).reset();
    }
    EXPECT_TRUE(crowded());
  }
  EXPECT_TRUE(eventually([] { return !crowded(); })) << "all their peers are gone";
}

}  // namespace
}  // namespace shunt::driver
