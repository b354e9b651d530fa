// A connection that leaked to another program (inherit_leak_test.cc): its ends, names, options and flags.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "inherit_leak.h"

namespace shunt::test {
namespace {

class InheritLeakState : public InheritLeak {};

TEST_P(InheritLeakState, HalfCloses) {
  ASSERT_EQ(run_true(), 0);
  both_ways([](int from, int to) {
    send_all(from, "last");
    EXPECT_EQ(shutdown(from, SHUT_WR), 0);
    expect_error(send(from, "x", 1, MSG_NOSIGNAL), EPIPE);
    EXPECT_EQ(recv_to_eof(to), "last");
    EXPECT_EQ(wait_for(to, POLLRDHUP) & POLLRDHUP, POLLRDHUP);
  });
  both_ways([](int, int to) { EXPECT_EQ(wait_for(to, POLLIN) & POLLHUP, POLLHUP); });
}

TEST_P(InheritLeakState, ShutdownOfReading) {
  ASSERT_EQ(run_true(), 0);
  EXPECT_EQ(shutdown(pair.client, SHUT_RD), 0);
  char byte;
  EXPECT_EQ(recv(pair.client, &byte, 1, 0), 0);
  expect_echo(pair.client, pair.server, "the other way works");
  EXPECT_EQ(send(pair.server, "x", 1, MSG_NOSIGNAL), 1) << "the peer does not notice";
}

TEST_P(InheritLeakState, CloseIsTheEnd) {
  ASSERT_EQ(run_true(), 0);
  send_all(pair.client, "last");
  pair.client.reset();
  EXPECT_EQ(recv_to_eof(pair.server), "last");
  ssize_t n = 0;
  for (const Stopwatch watch; n >= 0 && watch.ms() < kWaitMs;)
    n = send(pair.server, "x", 1, MSG_NOSIGNAL);  // TCP takes the first: nobody has said no yet
  expect_error(n, EPIPE);
}

TEST_P(InheritLeakState, CloseWithUnreadBytesResets) {
  send_all(pair.client, "unread");
  ASSERT_EQ(run_true(), 0);
  ASSERT_EQ(wait_for(pair.server, POLLIN), POLLIN);
  pair.server.reset();
  ASSERT_NE(wait_for(pair.client, POLLIN), 0);
  char byte;
  expect_error(recv(pair.client, &byte, 1, 0), ECONNRESET);
}

TEST_P(InheritLeakState, NamesAndOptions) {
  const std::string client = local_address(pair.client).text();
  const std::string server = local_address(pair.server).text();
  ASSERT_EQ(run_true(), 0);
  EXPECT_EQ(local_address(pair.client).text(), client);
  EXPECT_EQ(peer_address(pair.client).text(), server);
  EXPECT_EQ(local_address(pair.server).text(), server);
  EXPECT_EQ(peer_address(pair.server).text(), client);
  both_ways([](int fd, int) {
    auto option = [fd](int level, int name) {
      int value = -1;
      socklen_t length = sizeof value;
      EXPECT_EQ(getsockopt(fd, level, name, &value, &length), 0) << strerror(errno);
      return value;
    };
    EXPECT_EQ(option(SOL_SOCKET, SO_DOMAIN), AF_INET);
    EXPECT_EQ(option(SOL_SOCKET, SO_TYPE), SOCK_STREAM);
    EXPECT_EQ(option(SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
    EXPECT_EQ(option(SOL_SOCKET, SO_ERROR), 0);
    EXPECT_EQ(option(SOL_SOCKET, SO_ACCEPTCONN), 0);
    for (const int value : {1, 0}) {
      EXPECT_EQ(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, sizeof value), 0);
      EXPECT_EQ(option(IPPROTO_TCP, TCP_NODELAY), value);
      EXPECT_EQ(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, sizeof value), 0);
      EXPECT_EQ(option(SOL_SOCKET, SO_KEEPALIVE), value);
    }
    tcp_info info{};
    socklen_t length = sizeof info;
    EXPECT_EQ(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
    EXPECT_EQ(info.tcpi_state, TCP_ESTABLISHED);
    struct stat status {};
    EXPECT_EQ(fstat(fd, &status), 0);
    EXPECT_TRUE(S_ISSOCK(status.st_mode));
    Address again("127.0.0.1", 9);
    expect_error(connect(fd, again.get(), again.length), EISCONN);
    expect_error(listen(fd, 1), EINVAL);
    expect_error(accept(fd, nullptr, nullptr), EINVAL);
  });
}

TEST_P(InheritLeakState, TimeLimitsAndNonBlocking) {
  set_timeout(pair.client, SO_RCVTIMEO, 30);
  set_nonblocking(pair.server);
  ASSERT_EQ(run_true(), 0);
  char byte;
  Stopwatch watch;
  expect_error(recv(pair.client, &byte, 1, 0), EAGAIN);
  EXPECT_GE(watch.ms(), 25);
  expect_error(recv(pair.server, &byte, 1, 0), EAGAIN);
  set_nonblocking(pair.server, false);
  set_timeout(pair.server, SO_RCVTIMEO, 30);
  expect_error(recv(pair.server, &byte, 1, 0), EAGAIN);
  fill(pair.client);
  set_timeout(pair.client, SO_SNDTIMEO, 30);
  expect_error(send(pair.client, &byte, 1, MSG_NOSIGNAL), EAGAIN);
}

TEST_P(InheritLeakState, DuplicatesAndForkedChildren) {
  const Fd other(fcntl(pair.server, F_DUPFD_CLOEXEC, 100));
  ASSERT_EQ(run_true(), 0);
  expect_echo(pair.client, other, "by the duplicate");
  pair.server.reset();
  const Fd third(dup(other));
  expect_echo(third, pair.client, "by one made afterwards");
  Child child([&] {
    send_all(third, recv_exact(other, 5));
    return 0;
  });
  send_all(pair.client, "child");
  EXPECT_EQ(recv_exact(pair.client, 5), "child");
  EXPECT_EQ(child.wait(), 0);
  expect_echo(pair.client, other, "and the parent again");
}

INSTANTIATE_TEST_SUITE_P(Inherit, InheritLeakState,
                         ::testing::Values(Leaks::kConnecting, Leaks::kAccepting, Leaks::kBoth),
                         leaks_name);

}  // namespace
}  // namespace shunt::test
