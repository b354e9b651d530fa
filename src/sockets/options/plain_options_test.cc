#include "sockets/options/plain_options.h"

#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include "sockets/holders/adopt.h"
#include "sockets/options/options.h"
#include "sockets/options/plain_state.h"
#include "sockets/process/result.h"
#include "sockets/testing/test_plain.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

struct PlainCalls : testing::Test {
  Pair p;
  Socket* s = nullptr;
  void SetUp() override {
    ASSERT_TRUE(write_label(p.fds[0], kLabel));
    adopt_plain(p.fds[0]);
    s = plain(p.fds[0]);
    ASSERT_NE(nullptr, s);
  }
  template <typename T>
  T get(int level, int name) {
    T value{};
    socklen_t length = sizeof value;
    EXPECT_EQ(0, get_plain_option(p.fds[0], s, level, name, &value, &length)) << name;
    return value;
  }
  template <typename T>
  long set(int level, int name, const T& value) {
    return set_plain_option(p.fds[0], s, level, name, &value, sizeof value);
  }
};

TEST_F(PlainCalls, TheSocketIsATcpSocketByItsOptions) {
  EXPECT_EQ(AF_INET, get<int>(SOL_SOCKET, SO_DOMAIN));
  EXPECT_EQ(SOCK_STREAM, get<int>(SOL_SOCKET, SO_TYPE));
  EXPECT_EQ(IPPROTO_TCP, get<int>(SOL_SOCKET, SO_PROTOCOL));
  EXPECT_EQ(0, get<int>(SOL_SOCKET, SO_ACCEPTCONN));
  EXPECT_EQ(0, get<int>(IPPROTO_TCP, TCP_NODELAY));
  EXPECT_EQ(0, set(IPPROTO_TCP, TCP_NODELAY, 1));
  EXPECT_EQ(1, get<int>(IPPROTO_TCP, TCP_NODELAY));
  EXPECT_EQ(TCP_ESTABLISHED, get<tcp_info>(IPPROTO_TCP, TCP_INFO).tcpi_state);
  EXPECT_NE(0, set(SOL_SOCKET, SO_PASSCRED, 1));
  EXPECT_EQ(0, set(SOL_SOCKET, SO_LINGER, linger{1, 3}));
  EXPECT_EQ(3, get<linger>(SOL_SOCKET, SO_LINGER).l_linger);
}

TEST_F(PlainCalls, TimeoutsAndLowWaterHaveTheirEffect) {
  EXPECT_EQ(0, set(SOL_SOCKET, SO_RCVTIMEO, timeval{0, 20'000}));
  EXPECT_EQ(20'000, get<timeval>(SOL_SOCKET, SO_RCVTIMEO).tv_usec);
  char byte;
  EXPECT_EQ(-1, ::recv(p.fds[0], &byte, 1, 0));
  EXPECT_EQ(EAGAIN, errno);
  EXPECT_EQ(0, set(SOL_SOCKET, SO_RCVLOWAT, 3));
  EXPECT_EQ(3, get<int>(SOL_SOCKET, SO_RCVLOWAT));
}

TEST_F(PlainCalls, BuffersAreShownAsTcpWouldAndFelt) {
  int before = 0;
  socklen_t length = sizeof before;
  ::getsockopt(p.fds[0], SOL_SOCKET, SO_SNDBUF, &before, &length);
  EXPECT_EQ(0, set(SOL_SOCKET, SO_SNDBUF, 8192));
  EXPECT_EQ(16'384, get<int>(SOL_SOCKET, SO_SNDBUF));
  int after = 0;
  ::getsockopt(p.fds[0], SOL_SOCKET, SO_SNDBUF, &after, &length);
  EXPECT_EQ(16'384, after);
  EXPECT_NE(before, after);
}

TEST_F(PlainCalls, AResetIsReportedOnceAndEndsTheConnection) {
  EXPECT_FALSE(plain_disconnected(p.fds[0], s));
  ASSERT_EQ(1, ::send(p.fds[0], "x", 1, 0));
  p.close(1);  // with a byte unread
  EXPECT_TRUE(plain_disconnected(p.fds[0], s));
  EXPECT_EQ(ECONNRESET, get<int>(SOL_SOCKET, SO_ERROR));
  EXPECT_EQ(0, get<int>(SOL_SOCKET, SO_ERROR));
  EXPECT_TRUE(plain_disconnected(p.fds[0], s));
  EXPECT_EQ(-ENOTCONN, shutdown_plain(p.fds[0], s, SHUT_RDWR));
}

TEST_F(PlainCalls, AnEndLeavesThePeersNameUntilBothHaveEnded) {
  p.close(1);
  EXPECT_FALSE(plain_disconnected(p.fds[0], s));
  EXPECT_EQ(8, plain_tcp_state(p.fds[0], s));  // CLOSE_WAIT
  EXPECT_EQ(0, shutdown_plain(p.fds[0], s, SHUT_WR));
  EXPECT_TRUE(plain_disconnected(p.fds[0], s));
}

TEST_F(PlainCalls, ShuttingTheReceivingHalfLeavesThePeersSendingAlone) {
  EXPECT_EQ(-EINVAL, shutdown_plain(p.fds[0], s, 3));
  EXPECT_EQ(0, shutdown_plain(p.fds[0], s, SHUT_RD));
  EXPECT_TRUE(plain_read_shut(s));
  EXPECT_EQ(5, ::send(p.fds[1], "bytes", 5, MSG_NOSIGNAL));
  EXPECT_EQ(0, shutdown_plain(p.fds[0], s, SHUT_WR));
  char byte;
  EXPECT_EQ(0, ::recv(p.fds[1], &byte, 1, 0));
}

TEST_F(PlainCalls, Ioctls) {
  int value = -1;
  EXPECT_EQ(0, plain_ioctl(p.fds[0], s, SIOCATMARK, &value));
  EXPECT_EQ(0, value);
  EXPECT_EQ(kPassOn, plain_ioctl(p.fds[0], s, FIONREAD, &value));
  EXPECT_EQ(kPassOn, plain_ioctl(p.fds[0], s, TIOCOUTQ, &value));
  int on = 1;
  EXPECT_EQ(0, plain_ioctl(p.fds[0], s, FIONBIO, &on));
  EXPECT_NE(0, ::fcntl(p.fds[0], F_GETFL) & O_NONBLOCK);
}

}  // namespace
}  // namespace shunt::sockets
