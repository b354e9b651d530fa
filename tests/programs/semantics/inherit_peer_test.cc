// What the peer of a connection is doing when the other end gets another program: it sleeps in some call,
// or looks without sleeping.
#include "inherit_peer.h"

#include <gtest/gtest.h>

#include "epoll_set.h"

namespace shunt::test {
namespace {

void nothing_to_read(int fd) {
  EXPECT_EQ(wait_for(fd, POLLIN | POLLOUT, 0), POLLOUT);
  char byte;
  expect_error(recv(fd, &byte, 1, MSG_DONTWAIT), EAGAIN);
  int unread = -1;
  EXPECT_EQ(ioctl(fd, FIONREAD, &unread), 0);
  EXPECT_EQ(unread, 0);
}

TEST_P(InheritPeer, SleepsInRecv) {
  Handover h(plan({"say", "await", "send:1:0:5", "send:1:5:70000", "recv:2:0:6"}));
  std::string got;
  {
    Sleeper reader([&] {
      char buffer[16];
      const ssize_t n = recv(h.peer, buffer, 5, 0);
      got.assign(buffer, n < 0 ? 0 : static_cast<std::size_t>(n));
    });
    h.go();
    h.hear();
    h.tell();
  }
  EXPECT_EQ(got, pattern(5));
  EXPECT_TRUE(recv_exact(h.peer, 70'000) == pattern(70'000, 1, 5));
  send_all(h.peer, pattern(6, 2));
  EXPECT_EQ(h.wait(), 0);
  expect_eof(h.peer);
}

TEST_P(InheritPeer, SleepsInPoll) {
  Handover h(plan({"say", "await", "send:1:0:5", "eof"}));
  short events = 0;
  {
    Sleeper poller([&] { events = wait_for(h.peer, POLLIN | POLLRDHUP, 10'000); });
    h.go();
    h.hear();
    h.tell();
  }
  EXPECT_EQ(events, POLLIN);
  EXPECT_EQ(recv_exact(h.peer, 5), pattern(5));
  shutdown(h.peer, SHUT_WR);
  EXPECT_EQ(h.wait(), 0);
  const short end = wait_for(h.peer, POLLIN | POLLRDHUP);
  EXPECT_EQ(end & (POLLIN | POLLRDHUP), POLLIN | POLLRDHUP);
}

TEST_P(InheritPeer, SleepsInSelect) {
  Handover h(plan({"send:1:0:5"}));
  int ready = 0;
  {
    Sleeper selector([&] {
      fd_set set;
      FD_ZERO(&set);
      FD_SET(h.peer, &set);
      timeval limit{10, 0};
      ready = select(h.peer + 1, &set, nullptr, nullptr, &limit);
    });
    h.go();
  }
  EXPECT_EQ(ready, 1);
  EXPECT_EQ(recv_exact(h.peer, 5), pattern(5));
  EXPECT_EQ(h.wait(), 0);
  expect_eof(h.peer);
}

// Both triggers: sleeps through the switch, hears of the bytes, and later of the end.
void sleeps_in_epoll(Handover& h, std::uint32_t trigger) {
  Epoll ep;
  set_nonblocking(h.peer);
  ep.add(h.peer, EPOLLIN | EPOLLRDHUP | trigger);
  std::uint32_t events = 0;
  {
    Sleeper waiter([&] { events = ep.wait(10'000); });
    h.go();
    h.hear();
    h.tell();
  }
  EXPECT_EQ(events, EPOLLIN);
  EXPECT_EQ(recv_exact(h.peer, 5), pattern(5));
  nothing_to_read(h.peer);
  h.tell();
  EXPECT_EQ(ep.wait(), EPOLLIN) << "the second message";
  EXPECT_EQ(recv_exact(h.peer, 1), pattern(1, 1, 5));
  if (trigger == 0) {
    EXPECT_EQ(ep.wait(kQuietMs), 0U) << "nothing is left to read";
  }
  h.tell();
  EXPECT_EQ(ep.wait() & (EPOLLIN | EPOLLRDHUP), EPOLLIN | EPOLLRDHUP);
  expect_eof(h.peer);
  EXPECT_EQ(h.wait(), 0);
}

Steps epoll_steps() {
  return {"say", "await", "send:1:0:5", "await", "send:1:5:1", "await", "shutdown"};
}

TEST_P(InheritPeer, SleepsInLevelTriggeredEpoll) {
  Handover h(plan(epoll_steps()));
  sleeps_in_epoll(h, 0);
}

TEST_P(InheritPeer, SleepsInEdgeTriggeredEpoll) {
  Handover h(plan(epoll_steps()));
  sleeps_in_epoll(h, EPOLLET);
}

// Writes until EAGAIN before the switch; the edge for EPOLLOUT comes when the new program has read.
TEST_P(InheritPeer, WaitsForRoomByEpoll) {
  for (const std::uint32_t trigger : {std::uint32_t{0}, std::uint32_t{EPOLLET}}) {
    Handover h(plan({"say", "await", "recv-eof:1:0"}));
    Epoll ep;
    set_nonblocking(h.peer);
    ep.add(h.peer, EPOLLIN | EPOLLOUT | EPOLLRDHUP | trigger);
    EXPECT_EQ(ep.wait(), EPOLLOUT);
    const std::size_t filled = fill_with_pattern(h.peer);
    ep.wait(0);  // an edge from the pauses in filling
    h.go();
    h.hear();
    h.tell();
    EXPECT_EQ(ep.wait(), EPOLLOUT);
    send_all(h.peer, pattern(100'000, 1, filled));
    shutdown(h.peer, SHUT_WR);
    EXPECT_EQ(std::stoul(recv_exact(h.peer, 16)), filled + 100'000);
    EXPECT_EQ(h.wait(), 0);
  }
}

TEST_P(InheritPeer, LooksWithoutSleeping) {
  Handover h(plan({"say", "await", "send:1:0:5", "say", "eof"}));
  h.go();
  h.hear();
  nothing_to_read(h.peer);
  h.tell();
  h.hear();
  int unread = 0;
  ASSERT_EQ(wait_for(h.peer, POLLIN), POLLIN);
  EXPECT_EQ(ioctl(h.peer, FIONREAD, &unread), 0);
  EXPECT_EQ(unread, 5);
  char buffer[8];
  EXPECT_EQ(recv(h.peer, buffer, 3, MSG_PEEK | MSG_DONTWAIT), 3);
  EXPECT_EQ(recv_exact(h.peer, 5), pattern(5));
  nothing_to_read(h.peer);
  shutdown(h.peer, SHUT_WR);
  EXPECT_EQ(h.wait(), 0);
}

INSTANTIATE_TEST_SUITE_P(Inherit, InheritPeer, ::testing::ValuesIn(kPeerCases), peer_case_name);

}  // namespace
}  // namespace shunt::test
