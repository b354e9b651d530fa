// Half close and shutdown of both halves.
#include <gtest/gtest.h>

#include <atomic>

#include "net.h"

namespace shunt::test {
namespace {

std::atomic<int> g_signals{0};
void count_signal(int) { g_signals.fetch_add(1); }

TEST(Shutdown, WriteHalf) {
  Pair p = connected_pair();
  send_all(p.client, "question");
  ASSERT_EQ(shutdown(p.client, SHUT_WR), 0);
  EXPECT_EQ(recv_to_eof(p.server), "question");
  expect_echo(p.server, p.client, pattern(1 << 15));
  const std::string data = pattern(1 << 20);
  std::thread sender([&] { send_all(p.server, data); });
  EXPECT_TRUE(recv_exact(p.client, data.size()) == data);
  sender.join();
  p.server.reset();
  expect_eof(p.client);
}

TEST(Shutdown, WriteHalfThenSend) {
  SignalHandler handler(SIGPIPE, count_signal, 0);
  g_signals = 0;
  Pair p = connected_pair();
  ASSERT_EQ(shutdown(p.client, SHUT_WR), 0);
  expect_error(send(p.client, "x", 1, MSG_NOSIGNAL), EPIPE);
  EXPECT_EQ(g_signals, 0);
  expect_error(send(p.client, "x", 1, 0), EPIPE);
  EXPECT_EQ(g_signals, 1);
  expect_error(write(p.client, "x", 1), EPIPE);
  EXPECT_EQ(g_signals, 2);
  iovec v{const_cast<char*>("x"), 1};
  expect_error(writev(p.client, &v, 1), EPIPE);
  EXPECT_EQ(g_signals, 3);
  ASSERT_EQ(shutdown(p.client, SHUT_WR), 0) << "a second time is fine";
}

TEST(Shutdown, ReadHalf) {
  Pair p = connected_pair();
  ASSERT_EQ(shutdown(p.client, SHUT_RD), 0);
  char byte;
  EXPECT_EQ(recv(p.client, &byte, 1, 0), 0);
  EXPECT_EQ(wait_for(p.client, POLLIN | POLLRDHUP | POLLOUT), POLLIN | POLLRDHUP | POLLOUT);
  expect_echo(p.client, p.server, "the other way works");
  EXPECT_EQ(send(p.server, "x", 1, MSG_NOSIGNAL), 1) << "the peer does not notice";
}

TEST(Shutdown, ReadHalfKeepsWhatIsQueued) {
  Pair p = connected_pair();
  send_all(p.server, "queued");
  ASSERT_NE(wait_for(p.client, POLLIN), 0);
  ASSERT_EQ(shutdown(p.client, SHUT_RD), 0);
  char buffer[16] = {};
  EXPECT_EQ(recv(p.client, buffer, sizeof buffer, 0), 6);
  EXPECT_EQ(recv(p.client, buffer, sizeof buffer, 0), 0);
}

TEST(Shutdown, ReadHalfWakesAReader) {
  Pair p = connected_pair();
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(40));
    shutdown(p.client, SHUT_RD);
  });
  char byte;
  EXPECT_EQ(recv(p.client, &byte, 1, 0), 0);
  later.join();
}

TEST(Shutdown, BothHalves) {
  Pair p = connected_pair();
  ASSERT_EQ(shutdown(p.client, SHUT_RDWR), 0);
  char byte;
  EXPECT_EQ(recv(p.client, &byte, 1, 0), 0);
  expect_error(send(p.client, "x", 1, MSG_NOSIGNAL), EPIPE);
  expect_eof(p.server);
}

TEST(Shutdown, BothHalvesWakeAReader) {
  Pair p = connected_pair();
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(40));
    shutdown(p.client, SHUT_RDWR);
  });
  char byte;
  EXPECT_EQ(recv(p.client, &byte, 1, 0), 0);
  later.join();
  expect_eof(p.server);
}

TEST(Shutdown, WakesAWriter) {
  Pair p = connected_pair();
  set_nonblocking(p.client);
  fill(p.client);
  set_nonblocking(p.client, false);
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(40));
    shutdown(p.client, SHUT_WR);
  });
  expect_error(send(p.client, "x", 1, MSG_NOSIGNAL), EPIPE);
  later.join();
}

TEST(Shutdown, Errors) {
  Fd fresh = tcp_socket();
  expect_error(shutdown(fresh, SHUT_WR), ENOTCONN);
  Pair p = connected_pair();
  expect_error(shutdown(p.client, 7), EINVAL);
  expect_echo(p.client, p.server, "fine");
}

TEST(Shutdown, BothSidesHalfClosed) {
  Pair p = connected_pair();
  shutdown(p.client, SHUT_WR);
  shutdown(p.server, SHUT_WR);
  ASSERT_NE(wait_for(p.client, POLLHUP), 0);
  EXPECT_EQ(wait_for(p.client, POLLIN | POLLOUT | POLLRDHUP),
            POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
  char byte;
  EXPECT_EQ(recv(p.client, &byte, 1, 0), 0);
  EXPECT_EQ(recv(p.server, &byte, 1, 0), 0);
}

}  // namespace
}  // namespace shunt::test
