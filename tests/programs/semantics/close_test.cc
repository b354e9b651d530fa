// close and reset, and what happens to data on its way.
#include <gtest/gtest.h>

#include <atomic>

#include "net.h"

namespace shunt::test {
namespace {

std::atomic<int> g_signals{0};
void count_signal(int) { g_signals.fetch_add(1); }

void set_linger_zero(int fd) {
  const linger option{1, 0};
  ASSERT_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &option, sizeof option), 0);
}

TEST(Close, EndOfStreamAfterData) {
  Pair p = connected_pair();
  send_all(p.client, "all of it");
  p.client.reset();
  EXPECT_EQ(recv_to_eof(p.server), "all of it");
  expect_eof(p.server);
  expect_eof(p.server);
}

TEST(Close, WakesABlockedReader) {
  Pair p = connected_pair();
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(40));
    p.client.reset();
  });
  char byte;
  EXPECT_EQ(recv(p.server, &byte, 1, 0), 0);
  later.join();
}

TEST(Close, LargeDataIsDeliveredAfterClose) {
  Pair p = connected_pair();
  set_nonblocking(p.client);
  const std::size_t taken = fill(p.client);
  p.client.reset();
  drain(p.server, taken);
  expect_eof(p.server);
}

TEST(Close, WithUnreadDataResets) {
  Pair p = connected_pair();
  send_all(p.client, "never read");
  ASSERT_NE(wait_for(p.server, POLLIN), 0);
  p.server.reset();
  EXPECT_EQ(wait_for(p.client, POLLIN | POLLRDHUP | POLLOUT),
            POLLIN | POLLOUT | POLLRDHUP | POLLERR | POLLHUP);
  char byte;
  expect_error(recv(p.client, &byte, 1, 0), ECONNRESET);
  EXPECT_EQ(recv(p.client, &byte, 1, 0), 0);
  expect_error(send(p.client, "x", 1, MSG_NOSIGNAL), EPIPE);
}

TEST(Close, ResetShowsInSoErrorOnce) {
  Pair p = connected_pair();
  send_all(p.client, "never read");
  ASSERT_NE(wait_for(p.server, POLLIN), 0);
  p.server.reset();
  ASSERT_NE(wait_for(p.client, POLLIN), 0);
  EXPECT_EQ(so_error(p.client), ECONNRESET);
  EXPECT_EQ(so_error(p.client), 0);
  char byte;
  EXPECT_EQ(recv(p.client, &byte, 1, 0), 0);
}

TEST(Close, ResetShowsInSend) {
  Pair p = connected_pair();
  send_all(p.client, "never read");
  ASSERT_NE(wait_for(p.server, POLLIN), 0);
  p.server.reset();
  ASSERT_NE(wait_for(p.client, POLLIN), 0);
  expect_error(send(p.client, "x", 1, MSG_NOSIGNAL), ECONNRESET);
  expect_error(send(p.client, "x", 1, MSG_NOSIGNAL), EPIPE);
}

TEST(Close, LingerZeroResets) {
  Pair p = connected_pair();
  set_linger_zero(p.client);
  p.client.reset();
  char byte;
  ASSERT_NE(wait_for(p.server, POLLIN), 0);
  expect_error(recv(p.server, &byte, 1, 0), ECONNRESET);
  EXPECT_EQ(recv(p.server, &byte, 1, 0), 0);
}

TEST(Close, LingerZeroAfterData) {
  Pair p = connected_pair();
  send_all(p.client, "before");
  ASSERT_NE(wait_for(p.server, POLLIN), 0);
  set_linger_zero(p.client);
  p.client.reset();
  ASSERT_NE(wait_for(p.server, POLLERR), 0);
  char buffer[16] = {};
  const ssize_t n = recv(p.server, buffer, sizeof buffer, 0);
  EXPECT_EQ(n, 6);
  EXPECT_STREQ(buffer, "before");
  expect_error(recv(p.server, buffer, 1, 0), ECONNRESET);
}

TEST(Close, ResetWakesABlockedReader) {
  Pair p = connected_pair();
  set_linger_zero(p.client);
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(40));
    p.client.reset();
  });
  char byte;
  expect_error(recv(p.server, &byte, 1, 0), ECONNRESET);
  later.join();
}

TEST(Close, ResetWakesABlockedWriter) {
  Pair p = connected_pair();
  set_nonblocking(p.server);
  fill(p.server);
  set_nonblocking(p.server, false);
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(40));
    p.client.reset();  // with unread data
  });
  expect_error(send(p.server, "x", 1, MSG_NOSIGNAL), ECONNRESET);
  later.join();
}

// The peer has closed: the first write is taken, a later one fails. How soon differs even on TCP.
TEST(Close, WritingToTheClosedPeerFails) {
  SignalHandler handler(SIGPIPE, count_signal, 0);
  g_signals = 0;
  Pair p = connected_pair();
  p.server.reset();
  ASSERT_NE(wait_for(p.client, POLLIN), 0);
  Stopwatch watch;
  ssize_t n = 0;
  while (n >= 0 && watch.ms() < kWaitMs) {
    n = send(p.client, "x", 1, 0);
    std::this_thread::yield();
  }
  expect_error(n, EPIPE);
  EXPECT_EQ(g_signals, 1);
}

}  // namespace
}  // namespace shunt::test
