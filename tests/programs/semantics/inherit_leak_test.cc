// A connection that a short-lived program gets without wanting it (no close-on-exec) goes on working for
// its owner, at the end that leaked and at the other: data and waiting. The rest: inherit_leak_state_test.cc.
#include "inherit_leak.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>

#include "epoll_set.h"

namespace shunt::test {
namespace {

TEST_P(InheritLeak, SendAndReceive) {
  expect_echo(pair.client, pair.server, "before");
  ASSERT_EQ(run_true(), 0);
  both_ways([](int from, int to) {
    expect_echo(from, to, pattern(100'000));
    char buffer[8];
    expect_error(recv(to, buffer, sizeof buffer, MSG_DONTWAIT), EAGAIN);
    ASSERT_EQ(write(from, "written", 7), 7);
    EXPECT_EQ(recv(to, buffer, 7, MSG_PEEK), 7);
    EXPECT_EQ(recv(to, buffer, 7, MSG_WAITALL), 7);
    ASSERT_EQ(send(from, "s", 1, MSG_NOSIGNAL | MSG_DONTWAIT), 1);
    EXPECT_EQ(read(to, buffer, sizeof buffer), 1);
    expect_error(pread(to, buffer, 1, 0), ESPIPE);
  });
}

TEST_P(InheritLeak, UnreadBytesStayInOrder) {
  both_ways([](int from, int) { send_all(from, pattern(100'000)); });
  ASSERT_EQ(run_true(), 0);
  both_ways([](int from, int) { send_all(from, pattern(100'000, 1, 100'000)); });
  ASSERT_EQ(run_true(), 0);
  both_ways([](int, int to) { EXPECT_TRUE(recv_exact(to, 200'000) == pattern(200'000)); });
}

TEST_P(InheritLeak, Messages) {
  ASSERT_EQ(run_true(), 0);
  both_ways([](int from, int to) {
    char one[] = "one";
    char two[] = "two";
    iovec parts[] = {{one, 3}, {two, 3}};
    EXPECT_EQ(writev(from, parts, 2), 6);
    char buffer[8] = {};
    iovec halves[] = {{buffer, 2}, {buffer + 2, 6}};
    EXPECT_EQ(readv(to, halves, 2), 6);
    EXPECT_STREQ(buffer, "onetwo");
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = 2;
    EXPECT_EQ(sendmsg(from, &message, 0), 6);
    sockaddr_storage name{};
    msghdr answer{};
    answer.msg_iov = halves;
    answer.msg_iovlen = 2;
    answer.msg_name = &name;
    answer.msg_namelen = sizeof name;
    EXPECT_EQ(recvmsg(to, &answer, 0), 6);
    EXPECT_EQ(answer.msg_namelen, 0U);
    EXPECT_EQ(answer.msg_flags, 0);
    mmsghdr many[2] = {};
    for (mmsghdr& m : many) m.msg_hdr = message;
    EXPECT_EQ(sendmmsg(from, many, 2, 0), 2);
    EXPECT_EQ(recv_exact(to, 12), "onetwoonetwo");
  });
}

TEST_P(InheritLeak, AddressesOfMessagesAreIgnored) {
  ASSERT_EQ(run_true(), 0);
  both_ways([](int from, int to) {
    Address elsewhere("127.0.0.9", 9);
    EXPECT_EQ(sendto(from, "x", 1, MSG_NOSIGNAL, elsewhere.get(), elsewhere.length), 1);
    char byte;
    Address untouched("127.0.0.9", 9);
    EXPECT_EQ(recvfrom(to, &byte, 1, 0, untouched.get(), &untouched.length), 1);
  });
}

TEST_P(InheritLeak, PollAndSelect) {
  ASSERT_EQ(run_true(), 0);
  both_ways([](int from, int to) {
    EXPECT_EQ(wait_for(to, POLLIN | POLLOUT, 0), POLLOUT);
    send_all(from, "x");
    EXPECT_EQ(wait_for(to, POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT);
    fd_set in;
    fd_set out;
    FD_ZERO(&in);
    FD_ZERO(&out);
    FD_SET(to, &in);
    FD_SET(to, &out);
    timeval limit{5, 0};
    EXPECT_EQ(select(to + 1, &in, &out, nullptr, &limit), 2);
    EXPECT_EQ(recv_exact(to, 1), "x");
    EXPECT_EQ(wait_for(to, POLLIN, 0), 0);
  });
}

void epoll_case(int from, int to, std::uint32_t trigger, bool registered_before) {
  Epoll ep;
  if (registered_before) ep.add(to, EPOLLIN | EPOLLRDHUP | trigger);
  ASSERT_EQ(run_true(), 0);
  if (!registered_before) ep.add(to, EPOLLIN | EPOLLRDHUP | trigger);
  EXPECT_EQ(ep.wait(0), 0U);
  for (int i = 0; i < 3; ++i) {
    send_all(from, "again");
    EXPECT_EQ(ep.wait(), EPOLLIN);
    if (trigger == 0) {
      EXPECT_EQ(ep.wait(), EPOLLIN);
    }
    EXPECT_EQ(recv_exact(to, 5), "again");
    EXPECT_EQ(ep.wait(0), 0U);
  }
  ep.modify(to, EPOLLIN | EPOLLOUT | trigger);
  EXPECT_EQ(ep.wait(), EPOLLOUT);
  ep.modify(to, EPOLLIN | EPOLLONESHOT);
  send_all(from, "xy");
  EXPECT_EQ(ep.wait(), EPOLLIN);
  EXPECT_EQ(ep.wait(kQuietMs), 0U);
  EXPECT_EQ(recv_exact(to, 2), "xy");
  EXPECT_EQ(ep.control(EPOLL_CTL_DEL, to, 0), 0);
  EXPECT_EQ(ep.control(EPOLL_CTL_DEL, to, 0), -1);
  EXPECT_EQ(errno, ENOENT);
}

TEST_P(InheritLeak, LevelTriggeredEpollAsBefore) {
  both_ways([](int from, int to) { epoll_case(from, to, 0, true); });
}
TEST_P(InheritLeak, LevelTriggeredEpollAfterwards) {
  both_ways([](int from, int to) { epoll_case(from, to, 0, false); });
}
TEST_P(InheritLeak, EdgeTriggeredEpollAsBefore) {
  both_ways([](int from, int to) { epoll_case(from, to, EPOLLET, true); });
}
TEST_P(InheritLeak, EdgeTriggeredEpollAfterwards) {
  both_ways([](int from, int to) { epoll_case(from, to, EPOLLET, false); });
}

// Bytes that were there before and not read keep a level-triggered set ready.
TEST_P(InheritLeak, UnreadBytesKeepEpollReady) {
  both_ways([](int from, int to) {
    Epoll ep;
    ep.add(to, EPOLLIN);
    send_all(from, pattern(100));
    EXPECT_EQ(ep.wait(), EPOLLIN);
    EXPECT_TRUE(recv_exact(to, 50) == pattern(50));
    ASSERT_EQ(run_true(), 0);
    EXPECT_EQ(ep.wait(), EPOLLIN);
    EXPECT_EQ(ep.wait(), EPOLLIN);
    EXPECT_TRUE(recv_exact(to, 50) == pattern(50, 1, 50));
    EXPECT_EQ(ep.wait(0), 0U);
  });
}

TEST_P(InheritLeak, SendfileAndSplice) {
  ASSERT_EQ(run_true(), 0);
  both_ways([](int from, int to) {
    const Fd file(memfd_create("data", MFD_CLOEXEC));
    ASSERT_EQ(write(file, pattern(50'000).data(), 50'000), 50'000);
    off_t offset = 1000;
    EXPECT_EQ(sendfile(from, file, &offset, 49'000), 49'000);
    EXPECT_EQ(offset, 50'000);
    EXPECT_TRUE(recv_exact(to, 49'000) == pattern(49'000, 1, 1000));
    int tube[2];
    ASSERT_EQ(pipe2(tube, O_CLOEXEC), 0);
    const Fd out(tube[0]);
    const Fd in(tube[1]);
    ASSERT_EQ(write(in, "to the socket", 13), 13);
    EXPECT_EQ(splice(out, nullptr, from, nullptr, 13, 0), 13);
    ASSERT_EQ(wait_for(to, POLLIN), POLLIN);
    EXPECT_EQ(splice(to, nullptr, in, nullptr, 100, 0), 13);
    char buffer[16] = {};
    EXPECT_EQ(read(out, buffer, sizeof buffer), 13);
    EXPECT_STREQ(buffer, "to the socket");
  });
}

TEST_P(InheritLeak, CountsOfUnreadBytes) {
  both_ways([](int from, int) { send_all(from, pattern(1000)); });
  ASSERT_EQ(run_true(), 0);
  both_ways([](int from, int to) {
    int count = -1;
    ASSERT_EQ(wait_for(to, POLLIN), POLLIN);
    EXPECT_EQ(ioctl(to, FIONREAD, &count), 0);
    EXPECT_EQ(count, 1000);
    send_all(from, "more");
    EXPECT_TRUE(recv_exact(to, 1000) == pattern(1000));
    ASSERT_EQ(wait_for(to, POLLIN), POLLIN);
    EXPECT_EQ(ioctl(to, FIONREAD, &count), 0);
    EXPECT_EQ(count, 4);
    EXPECT_EQ(recv_exact(to, 4), "more");
    EXPECT_EQ(ioctl(to, FIONREAD, &count), 0);
    EXPECT_EQ(count, 0);
  });
}

INSTANTIATE_TEST_SUITE_P(Inherit, InheritLeak,
                         ::testing::Values(Leaks::kConnecting, Leaks::kAccepting, Leaks::kBoth),
                         leaks_name);

}  // namespace
}  // namespace shunt::test
