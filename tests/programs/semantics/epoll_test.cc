// epoll: level and edge triggered, one-shot, registration rules.
#include <gtest/gtest.h>

#include "epoll_set.h"

namespace shunt::test {
namespace {

TEST(Epoll, LevelTriggeredRepeats) {
  Pair p = connected_pair();
  Epoll e;
  e.add(p.server, EPOLLIN);
  EXPECT_EQ(e.wait(0), 0U);
  send_all(p.client, "abc");
  for (int i = 0; i < 3; ++i) EXPECT_EQ(e.wait(), EPOLLIN);
  recv_exact(p.server, 2);
  EXPECT_EQ(e.wait(), EPOLLIN);
  recv_exact(p.server, 1);
  EXPECT_EQ(e.wait(kQuietMs), 0U);
}

TEST(Epoll, LevelTriggeredOut) {
  Pair p = connected_pair();
  Epoll e;
  e.add(p.client, EPOLLOUT);
  EXPECT_EQ(e.wait(), EPOLLOUT);
  EXPECT_EQ(e.wait(), EPOLLOUT);
  set_nonblocking(p.client);
  const std::size_t taken = fill(p.client);
  EXPECT_EQ(e.wait(0), 0U);
  drain(p.server, taken);
  EXPECT_EQ(e.wait(), EPOLLOUT);
}

TEST(Epoll, EdgeTriggeredOncePerArrival) {
  Pair p = connected_pair();
  Epoll e;
  e.add(p.server, EPOLLIN | EPOLLET);
  send_all(p.client, "abc");
  EXPECT_EQ(e.wait(), EPOLLIN);
  EXPECT_EQ(e.wait(kQuietMs), 0U);
  send_all(p.client, "def");  // not drained: new data is a new edge all the same
  EXPECT_EQ(e.wait(), EPOLLIN);
  EXPECT_EQ(recv_exact(p.server, 6), "abcdef");
  EXPECT_EQ(e.wait(kQuietMs), 0U);
}

TEST(Epoll, EdgeTriggeredInAndOut) {
  Pair p = connected_pair();
  Epoll e;
  e.add(p.server, EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP);
  EXPECT_EQ(e.wait(), EPOLLOUT);
  EXPECT_EQ(e.wait(kQuietMs), 0U);
  send_all(p.client, "x");
  EXPECT_EQ(e.wait(), EPOLLIN | EPOLLOUT);
  shutdown(p.client, SHUT_WR);
  EXPECT_EQ(e.wait(), EPOLLIN | EPOLLOUT | EPOLLRDHUP);
  EXPECT_EQ(e.wait(kQuietMs), 0U);
}

TEST(Epoll, EdgeTriggeredRoom) {
  Pair p = connected_pair();
  set_nonblocking(p.client);
  Epoll e;
  e.add(p.client, EPOLLOUT | EPOLLET);
  EXPECT_EQ(e.wait(), EPOLLOUT);
  const std::size_t taken = fill(p.client);
  EXPECT_LE(e.wait(0), EPOLLOUT);  // room that came and went while filling
  EXPECT_EQ(e.wait(kQuietMs), 0U);
  Later later([&] { drain(p.server, taken); });
  EXPECT_EQ(e.wait(), EPOLLOUT);
  EXPECT_GT(send(p.client, "x", 1, 0), 0);
}

// The pattern of every edge-triggered server: read to EAGAIN, wait, over and over.
TEST(Epoll, EdgeTriggeredLosesNothing) {
  Pair p = connected_pair();
  set_nonblocking(p.server);
  Epoll e;
  e.add(p.server, EPOLLIN | EPOLLET | EPOLLRDHUP);
  const std::string data = pattern(4 << 20, 11);
  std::thread sender([&] {
    std::size_t at = 0;
    std::size_t step = 1;
    while (at < data.size()) {
      const std::size_t n = std::min(step, data.size() - at);
      send_all(p.client, data.substr(at, n));
      at += n;
      step = step * 7 % 60'013 + 1;
    }
    p.client.reset();
  });
  std::string got;
  std::string block(9000, '\0');
  bool end = false;
  while (!end) {
    const std::uint32_t events = e.wait();
    ASSERT_NE(events, 0U) << "lost an edge after " << got.size();
    for (;;) {
      const ssize_t n = recv(p.server, block.data(), block.size(), 0);
      if (n == 0) end = true;
      if (n <= 0) break;
      got.append(block, 0, static_cast<std::size_t>(n));
    }
  }
  sender.join();
  EXPECT_TRUE(got == data);
}

TEST(Epoll, OneShot) {
  Pair p = connected_pair();
  Epoll e;
  e.add(p.server, EPOLLIN | EPOLLONESHOT);
  send_all(p.client, "x");
  EXPECT_EQ(e.wait(), EPOLLIN);
  send_all(p.client, "y");
  EXPECT_EQ(e.wait(kQuietMs), 0U);
  e.modify(p.server, EPOLLIN | EPOLLONESHOT);
  EXPECT_EQ(e.wait(), EPOLLIN);
  EXPECT_EQ(e.wait(kQuietMs), 0U);
  e.modify(p.server, EPOLLIN | EPOLLONESHOT | EPOLLET);
  EXPECT_EQ(e.wait(), EPOLLIN);
  p.client.reset();
  EXPECT_EQ(e.wait(kQuietMs), 0U) << "disabled: not even a hang-up is reported";
}

TEST(Epoll, PeerClose) {
  Pair p = connected_pair();
  Epoll e;
  e.add(p.server, EPOLLIN | EPOLLRDHUP);
  Later later([&] { p.client.reset(); });
  EXPECT_EQ(e.wait(), EPOLLIN | EPOLLRDHUP);
  shutdown(p.server, SHUT_WR);
  std::uint32_t events = 0;
  Stopwatch watch;
  while ((events & EPOLLHUP) == 0 && watch.ms() < kWaitMs) events = e.wait();
  EXPECT_EQ(events, EPOLLIN | EPOLLRDHUP | EPOLLHUP);
}

TEST(Epoll, Reset) {
  Pair p = connected_pair();
  Epoll e;
  e.add(p.client, 0);  // errors and hang-ups are always reported
  send_all(p.client, "unread");
  wait_for(p.server, POLLIN);
  EXPECT_EQ(e.wait(0), 0U);
  p.server.reset();
  EXPECT_EQ(e.wait(), EPOLLERR | EPOLLHUP);
  char byte;
  EXPECT_EQ(recv(p.client, &byte, 1, 0), -1);
  EXPECT_EQ(errno, ECONNRESET);
  EXPECT_EQ(e.wait(), EPOLLHUP);
}

TEST(Epoll, ModifyChangesEventsAndData) {
  Pair p = connected_pair();
  Epoll e;
  e.add(p.server, EPOLLIN, 1);
  send_all(p.client, "x");
  EXPECT_EQ(e.wait(kWaitMs, 1), EPOLLIN);
  e.modify(p.server, EPOLLOUT, 2);
  EXPECT_EQ(e.wait(kWaitMs, 2), EPOLLOUT);
  e.modify(p.server, 0, 3);
  EXPECT_EQ(e.wait(kQuietMs), 0U);
  e.modify(p.server, EPOLLIN | EPOLLOUT, 4);
  EXPECT_EQ(e.wait(kWaitMs, 4), EPOLLIN | EPOLLOUT);
}

TEST(Epoll, ModifyReportsWhatIsPending) {
  Pair p = connected_pair();
  Epoll e;
  e.add(p.server, EPOLLIN | EPOLLET);
  send_all(p.client, "x");
  EXPECT_EQ(e.wait(), EPOLLIN);
  EXPECT_EQ(e.wait(kQuietMs), 0U);
  e.modify(p.server, EPOLLIN | EPOLLET);
  EXPECT_EQ(e.wait(), EPOLLIN) << "MOD is how edge-triggered programs ask again";
}

TEST(Epoll, AddReportsWhatIsPending) {
  Pair p = connected_pair();
  send_all(p.client, "x");
  wait_for(p.server, POLLIN);
  Epoll e;
  e.add(p.server, EPOLLIN | EPOLLET);
  EXPECT_EQ(e.wait(), EPOLLIN);
}

TEST(Epoll, RegistrationErrors) {
  Pair p = connected_pair();
  Epoll e;
  EXPECT_EQ(e.control(EPOLL_CTL_MOD, p.server, EPOLLIN), -1);
  EXPECT_EQ(errno, ENOENT);
  EXPECT_EQ(e.control(EPOLL_CTL_DEL, p.server, 0), -1);
  EXPECT_EQ(errno, ENOENT);
  e.add(p.server, EPOLLIN);
  EXPECT_EQ(e.control(EPOLL_CTL_ADD, p.server, EPOLLIN), -1);
  EXPECT_EQ(errno, EEXIST);
  EXPECT_EQ(epoll_ctl(e.fd(), EPOLL_CTL_DEL, p.server, nullptr), 0);
  send_all(p.client, "x");
  EXPECT_EQ(e.wait(kQuietMs), 0U);
  EXPECT_EQ(e.control(EPOLL_CTL_ADD, -1, EPOLLIN), -1);
  EXPECT_EQ(errno, EBADF);
  EXPECT_EQ(e.control(99, p.server, EPOLLIN), -1);
  EXPECT_EQ(errno, EINVAL);
  epoll_event event;
  EXPECT_EQ(epoll_wait(e.fd(), &event, 0, 0), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(epoll_wait(p.server, &event, 1, 0), -1);
  EXPECT_EQ(errno, EINVAL);
  epoll_event in{EPOLLIN, {}};
  EXPECT_EQ(epoll_ctl(p.server, EPOLL_CTL_ADD, p.client, &in), -1);
  EXPECT_EQ(errno, EINVAL);
}

TEST(Epoll, CloseRemoves) {
  Epoll e;
  Pair p = connected_pair();
  const int number = p.server;
  e.add(p.server, EPOLLIN);
  p.server.reset();
  EXPECT_EQ(e.control(EPOLL_CTL_MOD, number, EPOLLIN), -1);
  EXPECT_EQ(errno, EBADF);
  Pair q = connected_pair();  // takes the number again
  send_all(q.client, "x");
  EXPECT_EQ(e.wait(kQuietMs), 0U);
  EXPECT_EQ(e.control(EPOLL_CTL_DEL, q.server, 0), -1);
  EXPECT_EQ(errno, ENOENT);
}

TEST(Epoll, RegistrationLivesWhileADuplicateLives) {
  Pair p = connected_pair();
  Epoll e;
  e.add(p.server, EPOLLIN);
  Fd copy(dup(p.server));
  p.server.reset();
  send_all(p.client, "x");
  EXPECT_EQ(e.wait(), EPOLLIN);
  copy.reset();
  EXPECT_EQ(e.wait(kQuietMs), 0U);
}

}  // namespace
}  // namespace shunt::test
